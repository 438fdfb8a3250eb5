// Products of bytes, and the layers that prediction computes with them: block by block of rows, from the input of one product to
// the next norm without a way through memory. Sums are exact; all between them is fp32.
//
// Bytes come in units of four, whose products with those of another unit are summed in one number of 32 bits. Weights lie in
// panels: [outputs / PANEL, units of inputs, PANEL], filled up with zeros.

#pragma once

#include "elementwise.h"

namespace {

constexpr int VECTORS = W == 16 ? 4 : 2;  // of outputs that are computed together
constexpr int PANEL = VECTORS * W;
constexpr int ROWS = W == 16 ? 6 : 4;  // that are computed together: their sums fill the registers

// Levels from 0 to 255 times weights from -LARGEST to LARGEST. Without an instruction for sums of four products, sums of two
// go through 16 bits, which hold up to 32,767: 2 * 255 * 64 = 32,640 fits, so that these sums are exact too; 127 would not.
#if defined(TEXTUNE_AVX512) && defined(__AVX512VNNI__)
constexpr int LARGEST = 127;
inline I add_products(U a, U w, I sum) { return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)w); }
#elif defined(TEXTUNE_AVX512)
constexpr int LARGEST = 64;
inline I add_products(U a, U w, I sum) {
    __m512i twos = _mm512_maddubs_epi16((__m512i)a, (__m512i)w);
    return sum + (I)_mm512_madd_epi16(twos, _mm512_set1_epi16(1));
}
#elif defined(TEXTUNE_AVX2)
constexpr int LARGEST = 64;
inline I add_products(U a, U w, I sum) {
    __m256i twos = _mm256_maddubs_epi16((__m256i)a, (__m256i)w);
    return sum + (I)_mm256_madd_epi16(twos, _mm256_set1_epi16(1));
}
#elif defined(__SSSE3__)
constexpr int LARGEST = 64;
inline I add_products(U a, U w, I sum) {
    __m128i twos = _mm_maddubs_epi16((__m128i)a, (__m128i)w);
    return sum + (I)_mm_madd_epi16(twos, _mm_set1_epi16(1));
}
#else
constexpr int LARGEST = 127;
inline I add_products(U a, U w, I sum) {
    for (int bits = 0; bits < 32; bits += 8) sum += (I)((a >> bits) & 0xffu) * ((I)(w << (24 - bits)) >> 24);
    return sum;
}
#endif

constexpr int64_t MOST_INPUTS = 65536;  // 255 * 127 * 65,536 fits 32 bits

struct Weights {
    const uint32_t* panels;
    const float *bias, *scale, *sums;  // of every output, filled up to whole panels: a weight's scale, all weights' sum
    int64_t inputs, outputs;
    int64_t units() const { return (inputs + 3) / 4; }
};

// Rows as a product takes them: each number is low + step * level.
struct Rows {
    uint32_t* units;
    int64_t stride;  // in units
    float *step, *low;
};

inline int64_t units_of(int64_t width) { return (width + W - 1) / W * (W / 4); }
inline size_t rows_room(int64_t count, int64_t width) { return room(count * units_of(width), 4) + 2 * room(count, 4); }
inline Rows take_rows(Scratch::Part& part, int64_t count, int64_t width) {
    return {part.take<uint32_t>(count * units_of(width)), units_of(width), part.take<float>(count), part.take<float>(count)};
}

inline void store_bytes(uint8_t* p, U v) {  // of numbers below 256
#if defined(TEXTUNE_AVX512)
    _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8((__m512i)v));
#elif defined(TEXTUNE_AVX2)
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(words, words));
#else
    for (int i = 0; i < W; ++i) p[i] = (uint8_t)v[i];
#endif
}

// 255 steps from the lowest number, or zero, to the highest. What is not finite makes the step no number, and so all results.
inline void quantise(const float* x, int64_t width, const Rows& rows, int64_t r) {
    int64_t whole = width / W * W;
    F high{}, low{}, total{};
    auto take = [&](F v) { high = v > high ? v : high, low = v < low ? v : low, total += v; };
    for (int64_t c = 0; c < whole; c += W) take(load(x + c));
    if (whole < width) take(load(x + whole, (int)(width - whole)));
    float bottom = -largest(-low), all = sum(total), range = largest(high) - bottom + (all - all);
    float levels = range < 1e-30f ? 0.0f : 255.0f / range;
    rows.step[r] = range / 255.0f;
    rows.low[r] = bottom;
    uint8_t* out = (uint8_t*)(rows.units + r * rows.stride);
    // From 2^23 on fp32 holds whole numbers alone: adding it rounds, and leaves the level in the lowest bits.
    auto give = [&](int64_t c, F v) { store_bytes(out + c, (U)((v - bottom) * levels + 8388608.0f) & 0xffu); };
    for (int64_t c = 0; c < whole; c += W) give(c, load(x + c));
    if (whole < width) give(whole, load(x + whole, (int)(width - whole)));
}

// --- products ---------------------------------------------------------------------------------------------------------

template <int N>
inline void tile(const uint32_t* a, int64_t stride, const uint32_t* w, int64_t units, I (&sums)[N][VECTORS]) {
    for (int r = 0; r < N; ++r)
        for (int v = 0; v < VECTORS; ++v) sums[r][v] = I{};
    for (int64_t k = 0; k < units; ++k) {
        U right[VECTORS];
        for (int v = 0; v < VECTORS; ++v) right[v] = as<U>(w + k * PANEL + v * W);
        for (int r = 0; r < N; ++r) {
            U left = splat_u(a[r * stride + k]);
            for (int v = 0; v < VECTORS; ++v) sums[r][v] = add_products(left, right[v], sums[r][v]);
        }
    }
}

inline F finished(I sum, const Weights& weights, const Rows& rows, int64_t r, int64_t c) {
    F constant = load(weights.sums + c) * rows.low[r] + load(weights.bias + c);
    return __builtin_convertvector(sum, F) * (load(weights.scale + c) * rows.step[r]) + constant;
}

template <int N, typename Take>
void tile_products(const Rows& rows, int64_t first, const Weights& weights, int64_t panel, const Take& take) {
    I sums[N][VECTORS];
    int64_t units = weights.units();
    tile<N>(rows.units + first * rows.stride, rows.stride, weights.panels + panel * units * PANEL, units, sums);
    for (int v = 0; v < VECTORS; ++v) {
        int64_t c = panel * PANEL + v * W;
        if (c >= weights.outputs) return;
        for (int r = 0; r < N; ++r) take(first + r, c, finished(sums[r][v], weights, rows, first + r, c));
    }
}

// Products of the first `count` rows plus bias: calls take(row, output, F) for every W outputs; the last may be past the end.
// Every number is computed the same way whatever the other rows are.
template <typename Take>
void products(const Rows& rows, int64_t count, const Weights& weights, const Take& take) {
    int64_t tiles = (count + ROWS - 1) / ROWS, panels = (weights.outputs + PANEL - 1) / PANEL;
    for (int64_t panel = 0; panel < panels; ++panel)
        for (int64_t t = 0; t < tiles; ++t) {
            int64_t first = count * t / tiles, height = count * (t + 1) / tiles - first;
            if (height == ROWS) tile_products<ROWS>(rows, first, weights, panel, take);
            else if (height == 5) tile_products<5>(rows, first, weights, panel, take);
            else if (height == 4) tile_products<4>(rows, first, weights, panel, take);
            else if (height == 3) tile_products<3>(rows, first, weights, panel, take);
            else if (height == 2) tile_products<2>(rows, first, weights, panel, take);
            else tile_products<1>(rows, first, weights, panel, take);
        }
}

// --- a product by itself, and a layer behind its attention ------------------------------------------------------------

constexpr int64_t BLOCK_ROWS = 48;  // at most; weights are read once for each block, and its numbers stay in the cache

// Rows of a block: as many for each thread, in as few blocks as can be.
inline int64_t rows_of_block(int64_t count, int threads) {
    int64_t each = (count + threads - 1) / threads, blocks = (each + BLOCK_ROWS - 1) / BLOCK_ROWS;
    return blocks ? (each + blocks - 1) / blocks : 1;
}

// Up to three products of the same rows, results side by side.
struct Projections {
    Weights weights[3];
    int count;
    int64_t outputs() const {
        int64_t total = 0;
        for (int i = 0; i < count; ++i) total += weights[i].outputs;
        return total;
    }
};

inline int project(const Projections& projections, const float* x, float* y, int64_t count, int threads) {
    int64_t block = rows_of_block(count, threads), width = projections.weights[0].inputs, outputs = projections.outputs();
    Scratch scratch(rows_room(block, width), threads);
    if (!scratch) return 1;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t start = 0; start < count; start += block) {
        Scratch::Part part = scratch.part(omp_get_thread_num());
        Rows rows = take_rows(part, block, width);
        int64_t n = count - start < block ? count - start : block;
        for (int64_t r = 0; r < n; ++r) quantise(x + (start + r) * width, width, rows, r);
        float* out = y + start * outputs;
        for (int i = 0; i < projections.count; ++i) {
            const Weights& weights = projections.weights[i];
            products(rows, n, weights, [&](int64_t r, int64_t c, F v) {
                store(out + r * outputs + c, v, (int)(weights.outputs - c));
            });
            out += weights.outputs;
        }
    }
    return 0;
}

struct RowNorm {
    const float *gamma, *beta;
    float eps;
    void operator()(float* x, int64_t width) const {
        F total{}, squares{};
        for (int64_t c = 0; c < width; c += W) total += load(x + c, (int)(width - c));
        float mean = sum(total) / (float)width;
        for (int64_t c = 0; c < width; c += W) {
            int n = (int)(width - c);
            F off = load(x + c, n) - mean;
            if (n < W) off = lane() < (float)n ? off : F{};
            squares += off * off;
        }
        float scale = 1.0f / __builtin_sqrtf(sum(squares) / (float)width + eps);
        for (int64_t c = 0; c < width; c += W) {
            int n = (int)(width - c);
            store(x + c, (load(x + c, n) - mean) * scale * load(gamma + c, n) + load(beta + c, n), n);
        }
    }
};

// What becomes one of 256 levels needs no more than this: x times a polynomial's normal CDF, off by less than 5e-5 for |x| < 5.
inline F near_gelu(F x, const float (&factors)[9]) {
    F bounded = x > 4.2f ? splat(4.2f) : x < -4.2f ? splat(-4.2f) : x, square = bounded * bounded, p = splat(factors[0]);
    for (int i = 1; i < 9; ++i) p = p * square + factors[i];
    return x * (bounded * p + 0.5f);
}
template <int A>
inline F activate_for_levels(F x) {
    constexpr float erf[9] = {4.92380335e-11f,  -4.79565062e-09f, 2.07247292e-07f,  -5.28955915e-06f, 8.98358958e-05f,
                              -1.08645878e-03f, 9.74093958e-03f,  -6.62220761e-02f, 3.98834578e-01f};
    constexpr float tanh[9] = {5.85341228e-11f,  -5.60993126e-09f, 2.37425235e-07f,  -5.90235123e-06f, 9.71791476e-05f,
                               -1.13799750e-03f, 9.93288342e-03f,  -6.64932432e-02f, 3.98807233e-01f};
    return A == RELU ? activate<RELU>(x) : near_gelu(x, A == GELU ? erf : tanh);
}

struct Layer {
    Weights mix, inner, output;
    RowNorm first, second;
};

// middle = first(residual + mix(attended)), y = second(middle + output(activation(inner(middle)))).
template <int A>
int finish_layer(const Layer& k, const float* attended, const float* residual, float* y, int64_t count, int threads) {
    int64_t block = rows_of_block(count, threads), from = k.mix.inputs, width = k.mix.outputs, inner = k.inner.outputs;
    int64_t padded = (inner + W - 1) / W * W, widest = inner > width ? inner : width;
    widest = from > widest ? from : widest;
    Scratch scratch(rows_room(block, widest) + room(block * padded, sizeof(float)) + room(block * width, sizeof(float)), threads);
    if (!scratch) return 1;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t start = 0; start < count; start += block) {
        Scratch::Part part = scratch.part(omp_get_thread_num());
        Rows rows = take_rows(part, block, widest);
        float *wide = part.take<float>(block * padded), *middle = part.take<float>(block * width), *out = y + start * width;
        int64_t n = count - start < block ? count - start : block;
        for (int64_t r = 0; r < n; ++r) quantise(attended + (start + r) * from, from, rows, r);
        products(rows, n, k.mix, [&](int64_t r, int64_t c, F v) {
            int left = (int)(width - c);
            store(middle + r * width + c, v + load(residual + (start + r) * width + c, left), left);
        });
        for (int64_t r = 0; r < n; ++r) {
            k.first(middle + r * width, width);
            quantise(middle + r * width, width, rows, r);
        }
        products(rows, n, k.inner, [&](int64_t r, int64_t c, F v) { store(wide + r * padded + c, activate_for_levels<A>(v)); });
        for (int64_t r = 0; r < n; ++r) quantise(wide + r * padded, inner, rows, r);
        products(rows, n, k.output, [&](int64_t r, int64_t c, F v) {
            int left = (int)(width - c);
            store(out + r * width + c, v + load(middle + r * width + c, left), left);
        });
        for (int64_t r = 0; r < n; ++r) k.second(out + r * width, width);
    }
    return 0;
}

}  // namespace
