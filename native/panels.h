// Products whose weights lie in panels, as prediction computes them: of fp32, of bf16 where the processor has them, of bytes.
//
// Numbers come in units of 32 bits: one of fp32, two of bf16 or four bytes, whose products with the numbers of another unit are
// summed in one. So one loop serves all. Weights lie as [outputs / PANEL, units of inputs, PANEL], filled up with zeros.

#pragma once

#include "vectors.h"

namespace {

constexpr int VECTORS = W == 16 ? 4 : 2;  // of outputs that are computed together
constexpr int PANEL = VECTORS * W;

struct Floats {
    typedef float Number;
    typedef F Sum;
    static constexpr int ROWS = 6, LARGEST = 0;  // rows that are computed together: their sums fill the registers
    static Sum add(U a, U w, Sum sum) { return sum + (F)a * (F)w; }
};

#ifdef __AVX512BF16__
struct Halves {
    typedef bf16 Number;
    typedef F Sum;
    static constexpr int ROWS = 6, LARGEST = 0;
    static Sum add(U a, U w, Sum sum) { return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)w); }
};
#endif

// Levels from 0 to 255 times weights from -LARGEST to LARGEST. Without an instruction for sums of four products, sums of two
// go through 16 bits, which hold up to 32,767: 2 * 255 * 64 = 32,640 fits, so that these sums are exact too; 127 would not.
struct Bytes {
    typedef uint8_t Number;
    typedef I Sum;
    static constexpr int ROWS = W == 16 ? 6 : 4;
#if defined(TEXTUNE_AVX512) && defined(__AVX512VNNI__)
    static constexpr int LARGEST = 127;
    static Sum add(U a, U w, Sum sum) { return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)w); }
#elif defined(TEXTUNE_AVX512)
    static constexpr int LARGEST = 64;
    static Sum add(U a, U w, Sum sum) {
        __m512i twos = _mm512_maddubs_epi16((__m512i)a, (__m512i)w);
        return sum + (I)_mm512_madd_epi16(twos, _mm512_set1_epi16(1));
    }
#elif defined(TEXTUNE_AVX2)
    static constexpr int LARGEST = 64;
    static Sum add(U a, U w, Sum sum) {
        __m256i twos = _mm256_maddubs_epi16((__m256i)a, (__m256i)w);
        return sum + (I)_mm256_madd_epi16(twos, _mm256_set1_epi16(1));
    }
#elif defined(__SSSE3__)
    static constexpr int LARGEST = 64;
    static Sum add(U a, U w, Sum sum) {
        __m128i twos = _mm_maddubs_epi16((__m128i)a, (__m128i)w);
        return sum + (I)_mm_madd_epi16(twos, _mm_set1_epi16(1));
    }
#else
    static constexpr int LARGEST = 127;
    static Sum add(U a, U w, Sum sum) {
        for (int bits = 0; bits < 32; bits += 8) sum += (I)((a >> bits) & 0xffu) * ((I)(w << (24 - bits)) >> 24);
        return sum;
    }
#endif
};

constexpr int64_t MOST_INPUTS = 65536;  // 255 * 127 * 65,536 fits 32 bits

template <typename P>
struct Weights {
    const uint32_t* panels;
    const float *bias, *scale, *sums;  // of every output, filled up to whole panels; the last two of bytes alone
    int64_t inputs, outputs;
    int64_t units() const { return (inputs * (int64_t)sizeof(typename P::Number) + 3) / 4; }
};

// Rows as a product takes them. Of bytes each number is low + step * level.
struct Rows {
    uint32_t* units;
    int64_t stride;  // in units
    float *step, *low;
};

inline int64_t units_of(int64_t width, size_t size) { return (width + W - 1) / W * W * (int64_t)size / 4; }

template <typename P>
size_t rows_room(int64_t count, int64_t width) {
    return room(count * units_of(width, sizeof(typename P::Number)), 4) + 2 * room(count, 4);
}
template <typename P>
Rows take_rows(Scratch::Part& part, int64_t count, int64_t width) {
    int64_t stride = units_of(width, sizeof(typename P::Number));
    return {part.take<uint32_t>(count * stride), stride, part.take<float>(count), part.take<float>(count)};
}

// --- rows for a product -----------------------------------------------------------------------------------------------

template <typename P>
struct Prepare;

template <>
struct Prepare<Floats> {
    static void row(const float* x, int64_t width, const Rows& rows, int64_t r) {
        std::memcpy(rows.units + r * rows.stride, x, sizeof(float) * width);
    }
};

#ifdef __AVX512BF16__
template <>
struct Prepare<Halves> {
    template <typename E>
    static void row(const E* x, int64_t width, const Rows& rows, int64_t r) {
        bf16* out = (bf16*)(rows.units + r * rows.stride);
        for (int64_t c = 0; c < width; c += W) store(out + c, load(x + c, (int)(width - c)));
    }
};
#endif

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

template <>
struct Prepare<Bytes> {
    // 255 steps from the lowest number, or zero, to the highest. What is not finite makes the step no number, and so all results.
    static void row(const float* x, int64_t width, const Rows& rows, int64_t r) {
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
};

// --- products ---------------------------------------------------------------------------------------------------------

template <typename P, int ROWS>
inline void tile(const uint32_t* a, int64_t stride, const uint32_t* w, int64_t units, typename P::Sum (&sums)[ROWS][VECTORS]) {
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) sums[r][v] = typename P::Sum{};
    for (int64_t k = 0; k < units; ++k) {
        U right[VECTORS];
        for (int v = 0; v < VECTORS; ++v) right[v] = as<U>(w + k * PANEL + v * W);
        for (int r = 0; r < ROWS; ++r) {
            U left = splat_u(a[r * stride + k]);
            for (int v = 0; v < VECTORS; ++v) sums[r][v] = P::add(left, right[v], sums[r][v]);
        }
    }
}

template <typename P>
inline F finished(F sum, const Weights<P>& weights, const Rows&, int64_t, int64_t c) {
    return sum + load(weights.bias + c);
}
inline F finished(I sum, const Weights<Bytes>& weights, const Rows& rows, int64_t r, int64_t c) {
    F constant = load(weights.sums + c) * rows.low[r] + load(weights.bias + c);
    return __builtin_convertvector(sum, F) * (load(weights.scale + c) * rows.step[r]) + constant;
}

template <typename P, int ROWS, typename Take>
void tile_products(const Rows& rows, int64_t first, const Weights<P>& weights, int64_t panel, const Take& take) {
    typename P::Sum sums[ROWS][VECTORS];
    int64_t units = weights.units();
    tile<P, ROWS>(rows.units + first * rows.stride, rows.stride, weights.panels + panel * units * PANEL, units, sums);
    for (int v = 0; v < VECTORS; ++v) {
        int64_t c = panel * PANEL + v * W;
        if (c >= weights.outputs) return;
        for (int r = 0; r < ROWS; ++r) take(first + r, c, finished(sums[r][v], weights, rows, first + r, c));
    }
}

// Products of the first `count` rows plus bias: calls take(row, output, F) for every W outputs; the last may be past the end.
// Every number is computed the same way whatever the other rows are.
template <typename P, typename Take>
void products(const Rows& rows, int64_t count, const Weights<P>& weights, const Take& take) {
    int64_t tiles = (count + P::ROWS - 1) / P::ROWS, panels = (weights.outputs + PANEL - 1) / PANEL;
    for (int64_t panel = 0; panel < panels; ++panel)
        for (int64_t t = 0; t < tiles; ++t) {
            int64_t first = count * t / tiles, height = count * (t + 1) / tiles - first;
            if (height == P::ROWS) tile_products<P, P::ROWS>(rows, first, weights, panel, take);
            else if (height == 5) tile_products<P, 5>(rows, first, weights, panel, take);
            else if (height == 4) tile_products<P, 4>(rows, first, weights, panel, take);
            else if (height == 3) tile_products<P, 3>(rows, first, weights, panel, take);
            else if (height == 2) tile_products<P, 2>(rows, first, weights, panel, take);
            else tile_products<P, 1>(rows, first, weights, panel, take);
        }
}

}  // namespace
