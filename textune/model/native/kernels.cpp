// What a packed transformer computes between its matrix products, in one pass each; compiled by build.py for this processor.
//
// Arithmetic is fp32 whatever the storage (float or bfloat16). Dropout masks are never stored: forward and backward draw the
// same bits from (seed, index). Every sum runs in a fixed order for a given number of threads, so results repeat exactly.
//
// Names: T tokens, H hidden, d head width, L tokens of a row. Vectors are GCC's and clang's own: 16 floats on any processor.

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int W = 16;
typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint16_t S __attribute__((vector_size(2 * W)));

struct bf16 {
    uint16_t bits;
};

// --- loads and stores; n < W touches n elements only ------------------------------------------------------------------

inline F splat(float x) { return F{} + x; }
inline U splat_u(uint32_t x) { return U{} + x; }

inline F up(S h) { return (F)(__builtin_convertvector(h, U) << 16); }

inline S down(F x) {  // round to nearest even, as PyTorch does; what is not a number stays so
    U u = (U)x;
    U rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    I nan = x != x;
    return __builtin_convertvector(((U)nan & 0x7fc0u) | (~(U)nan & rounded), S);
}

inline F load(const float* p) {
    F v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline F load(const bf16* p) {
    S h;
    std::memcpy(&h, p, sizeof h);
    return up(h);
}
inline void store(float* p, F v) { std::memcpy(p, &v, sizeof v); }
inline void store(bf16* p, F v) {
    S h = down(v);
    std::memcpy(p, &h, sizeof h);
}

inline F load(const float* p, int n) {
    if (n >= W) return load(p);
    F v{};
    std::memcpy(&v, p, sizeof(float) * n);
    return v;
}
inline F load(const bf16* p, int n) {
    if (n >= W) return load(p);
    S h{};
    std::memcpy(&h, p, sizeof(bf16) * n);
    return up(h);
}
inline void store(float* p, F v, int n) {
    if (n >= W) return store(p, v);
    std::memcpy(p, &v, sizeof(float) * n);
}
inline void store(bf16* p, F v, int n) {
    if (n >= W) return store(p, v);
    S h = down(v);
    std::memcpy(p, &h, sizeof(bf16) * n);
}

// --- functions --------------------------------------------------------------------------------------------------------

inline float sum(F v) {
    float halves[W];
    std::memcpy(halves, &v, sizeof v);
    for (int width = W / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) halves[i] += halves[i + width];
    return halves[0];
}
inline float largest(F v) {
    float halves[W];
    std::memcpy(halves, &v, sizeof v);
    for (int width = W / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) halves[i] = halves[i] > halves[i + width] ? halves[i] : halves[i + width];
    return halves[0];
}

inline F lane() {
    F v;
    for (int i = 0; i < W; ++i) v[i] = (float)i;
    return v;
}
inline U lane_u() {
    U v;
    for (int i = 0; i < W; ++i) v[i] = i;
    return v;
}

inline F exponential(F x) {  // Cephes' expf: 2^n times a polynomial of the rest; relative error below 2e-7
    I tiny = x < -87.3f;
    x = x < -87.3f ? splat(-87.3f) : x;
    x = x > 88.0f ? splat(88.0f) : x;
    F half = x < 0.0f ? splat(-0.5f) : splat(0.5f);
    I n = __builtin_convertvector(x * 1.44269504f + half, I);
    F f = __builtin_convertvector(n, F);
    F r = x - f * 0.693359375f - f * -2.12194440e-4f;
    F p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (F)(~tiny & (I)(p * (F)((n + 127) << 23)));
}

inline F gauss(F x) { return exponential(x * x * -0.5f); }

inline F normal_cdf(F x, F bell) {  // Abramowitz & Stegun 7.1.26; absolute error below 1e-7; bell = exp(-x^2 / 2)
    F z = (x < 0.0f ? -x : x) * 0.70710678f;
    F t = 1.0f / (1.0f + 0.3275911f * z);
    F tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t * bell * 0.5f;
    return x < 0.0f ? tail : 1.0f - tail;
}

inline F tanh_(F x) {
    F e = exponential((x < 0.0f ? x : -x) * 2.0f);
    F t = (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -t : t;
}

// --- random bits ------------------------------------------------------------------------------------------------------

inline uint32_t mix(uint32_t x) {  // lowbias32 (C. Wellons, hash-prospector)
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}
inline U mix(U x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

struct Dropout {  // zeros with probability limit / 2^32, everything else times `rescale`
    uint32_t limit, low, high;
    float rescale;
    Dropout(double p, uint64_t seed)
        : limit((uint32_t)(p * 4294967296.0)), low((uint32_t)seed), high((uint32_t)(seed >> 32)),
          rescale((float)(1.0 / (1.0 - p))) {}
    bool on() const { return limit != 0; }
    uint32_t row(uint32_t index) const { return mix(mix(index ^ low) + high); }
    F factor(uint32_t row_key, uint32_t column) const {
        U bits = mix(row_key ^ ((lane_u() + column) * 0x9e3779b9u));
        return bits < splat_u(limit) ? F{} : splat(rescale);
    }
};

// --- activation -------------------------------------------------------------------------------------------------------

enum Activation { GELU = 0, GELU_TANH = 1, RELU = 2 };

template <int A>
inline F activate(F x) {
    if (A == RELU) return x > 0.0f ? x : F{};
    if (A == GELU_TANH) return 0.5f * x * (1.0f + tanh_(0.79788456f * (x + 0.044715f * x * x * x)));
    return x * normal_cdf(x, gauss(x));
}

template <int A>
inline F slope(F x) {
    if (A == RELU) return x > 0.0f ? splat(1.0f) : F{};
    if (A == GELU_TANH) {
        F t = tanh_(0.79788456f * (x + 0.044715f * x * x * x));
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.79788456f * (1.0f + 0.134145f * x * x);
    }
    F bell = gauss(x);
    return normal_cdf(x, bell) + x * bell * 0.39894228f;
}

// Column sums of all threads, added up in the order of the threads.
struct Partials {
    int64_t width, threads;
    std::vector<float> sums;
    Partials(int64_t width, int threads) : width(width), threads(threads), sums(width * threads, 0.0f) {}
    float* of(int thread) { return sums.data() + width * thread; }
    void into(float* out, int64_t offset, int64_t count) const {
        for (int64_t c = 0; c < count; ++c) {
            float total = 0.0f;
            for (int t = 0; t < threads; ++t) total += sums[width * t + offset + c];
            out[c] = total;
        }
    }
};

inline int64_t share(int64_t count, int part, int parts) { return count * part / parts; }

template <typename E, int A>
void activation_forward(const E* x, const float* bias, E* y, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < width; c += W) {
            int n = (int)(width - c);
            store(y + r * width + c, activate<A>(load(x + r * width + c, n) + load(bias + c, n)), n);
        }
}

template <typename E, int A>
void activation_backward(const E* x, const float* bias, E* grad, float* grad_bias, int64_t rows, int64_t width, int threads) {
    Partials partials(width, threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; ++t) {
        float* sums = partials.of(t);
        for (int64_t r = share(rows, t, threads); r < share(rows, t + 1, threads); ++r)
            for (int64_t c = 0; c < width; c += W) {
                int n = (int)(width - c);
                F g = load(grad + r * width + c, n) * slope<A>(load(x + r * width + c, n) + load(bias + c, n));
                store(grad + r * width + c, g, n);
                store(sums + c, load(sums + c, n) + g, n);
            }
    }
    partials.into(grad_bias, 0, width);
}

template <typename E>
void dropped(const E* x, E* y, int64_t rows, int64_t width, const Dropout& dropout, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; ++r) {
        uint32_t key = dropout.row((uint32_t)r);
        for (int64_t c = 0; c < width; c += W) {
            int n = (int)(width - c);
            store(y + r * width + c, load(x + r * width + c, n) * dropout.factor(key, (uint32_t)c), n);
        }
    }
}

template <typename E>
void column_sums(const E* x, float* out, int64_t rows, int64_t width, int threads) {
    Partials partials(width, threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; ++t) {
        float* sums = partials.of(t);
        for (int64_t r = share(rows, t, threads); r < share(rows, t + 1, threads); ++r)
            for (int64_t c = 0; c < width; c += W) {
                int n = (int)(width - c);
                store(sums + c, load(sums + c, n) + load(x + r * width + c, n), n);
            }
    }
    partials.into(out, 0, width);
}

// --- y = norm(residual + dropout(x + bias)) ---------------------------------------------------------------------------

struct Norm {
    const float *bias, *gamma, *beta;
    float eps;
    int64_t rows, width;
    Dropout dropout;
    int threads;
};

// The norm's input, computed anew in the backward pass instead of being kept.
template <typename E>
inline F summed(const Norm& k, const E* x, const float* residual, int64_t r, int64_t c, int n, uint32_t key, F* factor) {
    *factor = k.dropout.on() ? k.dropout.factor(key, (uint32_t)c) : splat(1.0f);
    return load(residual + r * k.width + c, n) + (load(x + r * k.width + c, n) + load(k.bias + c, n)) * *factor;
}

template <typename E>
void norm_forward(const Norm& k, const E* x, const float* residual, float* y, E* y_low, float* means, float* scales) {
#pragma omp parallel num_threads(k.threads)
    {
        std::vector<float> buffer(k.width + W);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < k.rows; ++r) {
            uint32_t key = k.dropout.row((uint32_t)r);
            F total{}, factor;
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F s = summed(k, x, residual, r, c, n, key, &factor);
                store(buffer.data() + c, s, n);
                total += load(buffer.data() + c, n);
            }
            float mean = sum(total) / (float)k.width;
            F squares{};
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F off = load(buffer.data() + c, n) - mean;
                if (n < W) off = lane() < (float)n ? off : F{};
                squares += off * off;
            }
            float scale = 1.0f / __builtin_sqrtf(sum(squares) / (float)k.width + k.eps);
            means[r] = mean;
            scales[r] = scale;
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F out = (load(buffer.data() + c, n) - mean) * scale * load(k.gamma + c, n) + load(k.beta + c, n);
                store(y + r * k.width + c, out, n);
                if (y_low) store(y_low + r * k.width + c, out, n);
            }
        }
    }
}

// Takes dL/dy in two parts (fp32, and in low precision or null); gives dL/dresidual, dL/dx and the sums for gamma, beta, bias.
template <typename E>
void norm_backward(const Norm& k, const E* x, const float* residual, const float* means, const float* scales, const float* grad,
                   const E* grad_low, float* grad_residual, E* grad_x, float* grad_gamma, float* grad_beta, float* grad_bias) {
    Partials partials(3 * k.width, k.threads);
#pragma omp parallel for num_threads(k.threads) schedule(static, 1)
    for (int t = 0; t < k.threads; ++t) {
        float *for_gamma = partials.of(t), *for_beta = for_gamma + k.width, *for_bias = for_beta + k.width;
        std::vector<float> normed(k.width + W), scaled(k.width + W), factors(k.width + W);
        for (int64_t r = share(k.rows, t, k.threads); r < share(k.rows, t + 1, k.threads); ++r) {
            uint32_t key = k.dropout.row((uint32_t)r);
            F sum_scaled{}, sum_product{}, factor;
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F hat = (summed(k, x, residual, r, c, n, key, &factor) - means[r]) * scales[r];
                if (n < W) hat = lane() < (float)n ? hat : F{};
                F dy = load(grad + r * k.width + c, n);
                if (grad_low) dy += load(grad_low + r * k.width + c, n);
                F dg = dy * load(k.gamma + c, n);
                sum_scaled += dg;
                sum_product += dg * hat;
                store(for_gamma + c, load(for_gamma + c, n) + dy * hat, n);
                store(for_beta + c, load(for_beta + c, n) + dy, n);
                store(normed.data() + c, hat, n);
                store(scaled.data() + c, dg, n);
                store(factors.data() + c, factor, n);
            }
            float mean_scaled = sum(sum_scaled) / (float)k.width, mean_product = sum(sum_product) / (float)k.width;
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F ds = (load(scaled.data() + c, n) - mean_scaled - load(normed.data() + c, n) * mean_product) * scales[r];
                F dx = ds * load(factors.data() + c, n);
                store(grad_residual + r * k.width + c, ds, n);
                store(grad_x + r * k.width + c, dx, n);
                store(for_bias + c, load(for_bias + c, n) + dx, n);
            }
        }
    }
    partials.into(grad_gamma, 0, k.width);
    partials.into(grad_beta, k.width, k.width);
    partials.into(grad_bias, 2 * k.width, k.width);
}


// --- attention within each row ------------------------------------------------------------------------------------------

constexpr int R = 4;        // queries computed together
constexpr int BLOCK = 32;   // queries whose probabilities the backward pass keeps at once

inline int64_t rounded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

template <typename E>
struct View {  // [tokens, heads, d], d contiguous
    E* data;
    int64_t token, head;
    E* at(int64_t t, int64_t h) const { return data + t * token + h * head; }
};

struct Attention {
    const int64_t *starts, *lengths;
    int64_t rows, tokens, heads, key_heads, d, window;  // window: 0 sees everything
    int causal;
    float scale;
    Dropout dropout;
    int threads;
    int64_t repeats() const { return heads / key_heads; }
    int64_t padded_d() const { return rounded(d, W); }
    uint32_t key(int64_t token, int64_t head) const { return dropout.row((uint32_t)(token * heads + head)); }
    int64_t first_seen(int64_t i) const { return window && i >= window ? i - window + 1 : 0; }
    int64_t end_seen(int64_t i, int64_t length) const {
        int64_t end = causal ? i + 1 : window ? i + window : length;
        return end < length ? end : length;
    }
};

// Products are computed in units: one fp32 number, or, where the processor multiplies pairs of bf16 numbers, such a pair.
typedef uint32_t Pair;

inline F multiply_add(float a, F b, F sum) { return sum + a * b; }
inline F load_unit(const float* p) { return load(p); }
#ifdef __AVX512BF16__
inline U load_unit(const Pair* p) {
    U v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline F multiply_add(Pair a, U b, F sum) { return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)splat_u(a), (__m512bh)b); }
template <typename E>
using Unit = typename std::conditional<std::is_same<E, bf16>::value, Pair, float>::type;
#else
template <typename E>
using Unit = float;
#endif
template <typename T>
constexpr int64_t packed() {  // numbers in a unit
    return std::is_same<T, Pair>::value ? 2 : 1;
}

inline U pairs(F low, F high) {  // bf16 of `low` in the first half of each unit, of `high` in the second
    return __builtin_convertvector(down(low), U) | (__builtin_convertvector(down(high), U) << 16);
}
inline void store_unit(Pair* p, U v) { std::memcpy(p, &v, sizeof v); }

// One row's [L, d] of one head in units along d: [L rounded to R, padded d / packed].
template <typename E>
void gather(const View<const E>& view, int64_t start, int64_t length, int64_t head, int64_t d, float* out) {
    int64_t dp = rounded(d, W);
    for (int64_t i = 0; i < length; ++i)
        for (int64_t c = 0; c < dp; c += W)
            store(out + i * dp + c, c < d ? load(view.at(start + i, head) + c, (int)(d - c)) : F{});
    std::memset(out + length * dp, 0, sizeof(float) * (rounded(length, R) - length) * dp);
}
inline void gather(const View<const bf16>& view, int64_t start, int64_t length, int64_t head, int64_t d, Pair* out) {
    int64_t width = rounded(d, W) / 2;
    std::memset(out, 0, sizeof(Pair) * rounded(length, R) * width);
    for (int64_t i = 0; i < length; ++i) std::memcpy(out + i * width, view.at(start + i, head), sizeof(bf16) * d);
}

// The same in units along L: [L / packed, padded d]. Without pairs, that is what `gather` has made.
template <typename E>
const float* gather_along(const View<const E>&, int64_t, int64_t, int64_t, int64_t, const float* made, float*) {
    return made;
}
inline const Pair* gather_along(const View<const bf16>& view, int64_t start, int64_t length, int64_t head, int64_t d, const Pair*,
                                Pair* out) {
    int64_t dp = rounded(d, W), even = rounded(length, BLOCK);
    for (int64_t i = 0; i < even; i += 2)
        for (int64_t c = 0; c < dp; c += W) {
            F low = i < length && c < d ? load(view.at(start + i, head) + c, (int)(d - c)) : F{};
            F high = i + 1 < length && c < d ? load(view.at(start + i + 1, head) + c, (int)(d - c)) : F{};
            store_unit(out + i / 2 * dp + c, pairs(low, high));
        }
    return out;
}

// [L, width] of units to [width, L rounded to W].
template <typename T>
void transpose(const T* in, int64_t length, int64_t width, T* out) {
    int64_t lp = rounded(length, W);
    for (int64_t c = 0; c < width; ++c) {
        T* to = out + c * lp;
        for (int64_t i = 0; i < length; ++i) to[i] = in[i * width + c];
        for (int64_t i = length; i < lp; ++i) to[i] = T{};
    }
}

// out[r, j] = sum_c rows[r, c] * columns[c, j] for R rows and j from `first` (a multiple of W) to `end`.
template <typename T>
void products(const T* rows, const T* columns, int64_t width, int64_t lp, int64_t first, int64_t end, float* out) {
    int64_t j = first;
    for (; j + W < end; j += 2 * W) {
        F a[R]{}, b[R]{};
        for (int64_t c = 0; c < width; ++c) {
            auto left = load_unit(columns + c * lp + j), right = load_unit(columns + c * lp + j + W);
            for (int r = 0; r < R; ++r) {
                a[r] = multiply_add(rows[r * width + c], left, a[r]);
                b[r] = multiply_add(rows[r * width + c], right, b[r]);
            }
        }
        for (int r = 0; r < R; ++r) {
            store(out + r * lp + j, a[r]);
            store(out + r * lp + j + W, b[r]);
        }
    }
    if (j < end) {
        F a[R]{};
        for (int64_t c = 0; c < width; ++c) {
            auto left = load_unit(columns + c * lp + j);
            for (int r = 0; r < R; ++r) a[r] = multiply_add(rows[r * width + c], left, a[r]);
        }
        for (int r = 0; r < R; ++r) store(out + r * lp + j, a[r]);
    }
}

// out[r, :] += sum_k weights[r, k] * vectors[k, :] for R rows, where weights[r, k] = w[r * by_row + k * by_item].
template <typename T>
void combine(const T* w, int64_t by_row, int64_t by_item, const T* vectors, int64_t first, int64_t end, int64_t dp, float* out) {
    int64_t c = 0;
    for (; c + W < dp; c += 2 * W) {
        F a[R], b[R];
        for (int r = 0; r < R; ++r) a[r] = load(out + r * dp + c), b[r] = load(out + r * dp + c + W);
        for (int64_t k = first; k < end; ++k) {
            auto left = load_unit(vectors + k * dp + c), right = load_unit(vectors + k * dp + c + W);
            for (int r = 0; r < R; ++r) {
                a[r] = multiply_add(w[r * by_row + k * by_item], left, a[r]);
                b[r] = multiply_add(w[r * by_row + k * by_item], right, b[r]);
            }
        }
        for (int r = 0; r < R; ++r) store(out + r * dp + c, a[r]), store(out + r * dp + c + W, b[r]);
    }
    if (c < dp) {
        F a[R];
        for (int r = 0; r < R; ++r) a[r] = load(out + r * dp + c);
        for (int64_t k = first; k < end; ++k) {
            auto left = load_unit(vectors + k * dp + c);
            for (int r = 0; r < R; ++r) a[r] = multiply_add(w[r * by_row + k * by_item], left, a[r]);
        }
        for (int r = 0; r < R; ++r) store(out + r * dp + c, a[r]);
    }
}

// Weights [n, lp] in units along lp: [n, lp / packed].
inline const float* along_keys(const float* w, int64_t, int64_t, float*) { return w; }
inline const Pair* along_keys(const float* w, int64_t n, int64_t lp, Pair* out) {
    for (int64_t r = 0; r < n; ++r)
        for (int64_t j = 0; j < lp; j += W) store((bf16*)(out + r * lp / 2) + j, load(w + r * lp + j));
    return out;
}

// Weights [n, lp] (n even) in units along n: [n / packed, lp].
inline const float* along_queries(const float* w, int64_t, int64_t, float*) { return w; }
inline const Pair* along_queries(const float* w, int64_t n, int64_t lp, Pair* out) {
    for (int64_t r = 0; r < n; r += 2)
        for (int64_t j = 0; j < lp; j += W) store_unit(out + r / 2 * lp + j, pairs(load(w + r * lp + j), load(w + (r + 1) * lp + j)));
    return out;
}

// Scores [L rounded to W] of one query to exp((score - highest) * scale); keys outside [first, end) get zero. Returns 1 / sum.
inline float softmax(float* scores, int64_t lp, int64_t first, int64_t end, float scale) {
    const F nothing = splat(-3.0e38f);
    int64_t whole = rounded(first, W), whole_end = end / W * W;  // vectors inside need no mask
    auto masked = [&](int64_t j, F outside) {
        F at = lane() + (float)j;
        return (at >= (float)first) & (at < (float)end) ? load(scores + j) : outside;
    };
    F top = nothing;
    auto raise = [&](F s) { top = s > top ? s : top; };
    if (whole > whole_end) {  // all within one vector
        raise(masked(whole_end, nothing));
    } else {
        if (first < whole) raise(masked(whole - W, nothing));
        for (int64_t j = whole; j < whole_end; j += W) raise(load(scores + j));
        if (whole_end < end) raise(masked(whole_end, nothing));
    }
    float high = largest(top);
    F total{};
    auto finish = [&](int64_t j, F s) {
        F e = exponential((s - high) * scale);
        store(scores + j, e);
        total += e;
    };
    for (int64_t j = 0; j < first / W * W; j += W) store(scores + j, F{});
    if (whole > whole_end) {
        finish(whole_end, masked(whole_end, nothing));
    } else {
        if (first < whole) finish(whole - W, masked(whole - W, nothing));
        for (int64_t j = whole; j < whole_end; j += W) finish(j, load(scores + j));
        if (whole_end < end) finish(whole_end, masked(whole_end, nothing));
    }
    for (int64_t j = rounded(end, W); j < lp; j += W) store(scores + j, F{});
    return 1.0f / sum(total);
}

// Probabilities [R, L rounded to W] of R queries from i on, each still to be multiplied by its `scales`.
template <typename T>
void probabilities(const Attention& k, const T* query, const T* key_t, int64_t i, int64_t length, float* out, float* scales) {
    int64_t width = k.padded_d() / packed<T>(), lp = rounded(length, W), last = i + R - 1 < length ? i + R - 1 : length - 1;
    products(query + i * width, key_t, width, lp, k.first_seen(i) / W * W, k.end_seen(last, length), out);
    for (int64_t r = 0; r < R; ++r) {
        if (i + r < length)
            scales[r] = softmax(out + r * lp, lp, k.first_seen(i + r), k.end_seen(i + r, length), k.scale);
        else
            std::memset(out + r * lp, 0, sizeof(float) * lp);
    }
}

template <typename E>
void clear_gaps(const Attention& k, const View<E>& view, int64_t heads) {  // tokens of no row
    int64_t next = 0;
    for (int64_t row = 0; row <= k.rows; ++row) {
        int64_t start = row < k.rows ? k.starts[row] : k.tokens;
        for (int64_t t = next; t < start; ++t)
            for (int64_t h = 0; h < heads; ++h) std::memset(view.at(t, h), 0, sizeof(E) * k.d);
        if (row < k.rows) next = start + k.lengths[row];
    }
}

inline int64_t longest(const Attention& k) {
    int64_t most = 0;
    for (int64_t row = 0; row < k.rows; ++row) most = k.lengths[row] > most ? k.lengths[row] : most;
    return most;
}

template <typename E>
void attention_forward(const Attention& k, View<const E> q, View<const E> key, View<const E> value, View<E> out) {
    using T = Unit<E>;
    constexpr int64_t per = packed<T>();
    int64_t dp = k.padded_d(), most = rounded(longest(k), BLOCK);
    clear_gaps(k, out, k.heads);
#pragma omp parallel num_threads(k.threads)
    {
        std::vector<T> query(most * dp), rows(most * dp), keys_t(most * dp), along(most * dp), p_units(R * most);
        std::vector<float> p(R * most), o(R * dp);
#pragma omp for schedule(dynamic, 4)
        for (int64_t item = 0; item < k.rows * k.heads; ++item) {
            int64_t row = item / k.heads, head = item % k.heads, from = head / k.repeats();
            int64_t start = k.starts[row], length = k.lengths[row], lp = rounded(length, W);
            gather(q, start, length, head, k.d, query.data());
            gather(key, start, length, from, k.d, rows.data());
            transpose(rows.data(), length, dp / per, keys_t.data());
            if (per == 1) gather(value, start, length, from, k.d, rows.data());
            const T* values = gather_along(value, start, length, from, k.d, rows.data(), along.data());
            for (int64_t i = 0; i < length; i += R) {
                float scales[R];
                probabilities(k, query.data(), keys_t.data(), i, length, p.data(), scales);
                if (k.dropout.on())
                    for (int64_t r = 0; r < R && i + r < length; ++r) {
                        uint32_t bits = k.key(start + i + r, head);
                        for (int64_t j = 0; j < length; j += W) {
                            float* at = p.data() + r * lp + j;
                            store(at, load(at) * k.dropout.factor(bits, (uint32_t)j));
                        }
                    }
                std::memset(o.data(), 0, sizeof(float) * R * dp);
                int64_t last = i + R - 1 < length ? i + R - 1 : length - 1, end = k.end_seen(last, length);
                combine(along_keys(p.data(), R, lp, p_units.data()), lp / per, 1, values, k.first_seen(i) / per,
                        rounded(end, per) / per, dp, o.data());
                for (int64_t r = 0; r < R && i + r < length; ++r)
                    for (int64_t c = 0; c < k.d; c += W)
                        store(out.at(start + i + r, head) + c, load(o.data() + r * dp + c) * scales[r], (int)(k.d - c));
            }
        }
    }
}

// From the probabilities' gradient g [L rounded to W] of one query to the scores' gradient; p becomes what dropout kept of it.
inline void softmax_backward(const Attention& k, float* p, float* g, float* whole, float scale, int64_t token, int64_t head,
                             int64_t first, int64_t end) {
    F inner{};
    if (k.dropout.on()) {
        uint32_t bits = k.key(token, head);
        for (int64_t j = first; j < end; j += W) {
            F w = load(p + j) * scale, kept = w * k.dropout.factor(bits, (uint32_t)j), product = kept * load(g + j);
            inner += product;
            store(g + j, product);
            store(p + j, kept);
            store(whole + j, w);
        }
        float total = sum(inner);
        for (int64_t j = first; j < end; j += W) store(g + j, load(g + j) - load(whole + j) * total);
    } else {
        for (int64_t j = first; j < end; j += W) {
            F w = load(p + j) * scale;
            inner += w * load(g + j);
            store(p + j, w);
        }
        float total = sum(inner);
        for (int64_t j = first; j < end; j += W) store(g + j, load(p + j) * (load(g + j) - total));
    }
}

template <typename E>
void attention_backward(const Attention& k, View<const E> q, View<const E> key, View<const E> value, View<const E> grad,
                        View<E> grad_q, View<E> grad_key, View<E> grad_value) {
    using T = Unit<E>;
    constexpr int64_t per = packed<T>();
    int64_t dp = k.padded_d(), most = rounded(longest(k), BLOCK);
    clear_gaps(k, grad_q, k.heads);
    clear_gaps(k, grad_key, k.key_heads);
    clear_gaps(k, grad_value, k.key_heads);
#pragma omp parallel num_threads(k.threads)
    {
        std::vector<T> query(most * dp), outer(most * dp), key_rows(most * dp), rows(most * dp), keys_t(most * dp),
            values_t(most * dp), keys_along(most * dp), query_along(most * dp), outer_along(most * dp), units(BLOCK * most);
        std::vector<float> dk(most * dp), dv(most * dp), p(BLOCK * most), ds(BLOCK * most), whole(most), dq(R * dp);
#pragma omp for schedule(dynamic, 4)
        for (int64_t item = 0; item < k.rows * k.key_heads; ++item) {
            int64_t row = item / k.key_heads, from = item % k.key_heads;
            int64_t start = k.starts[row], length = k.lengths[row], lp = rounded(length, W);
            gather(key, start, length, from, k.d, key_rows.data());
            gather(value, start, length, from, k.d, rows.data());
            transpose(key_rows.data(), length, dp / per, keys_t.data());
            transpose(rows.data(), length, dp / per, values_t.data());
            const T* keys = gather_along(key, start, length, from, k.d, key_rows.data(), keys_along.data());
            std::memset(dk.data(), 0, sizeof(float) * rounded(length, R) * dp);
            std::memset(dv.data(), 0, sizeof(float) * rounded(length, R) * dp);
            for (int64_t head = from * k.repeats(); head < (from + 1) * k.repeats(); ++head) {
                gather(q, start, length, head, k.d, query.data());
                gather(grad, start, length, head, k.d, outer.data());
                const T* queries = gather_along(q, start, length, head, k.d, query.data(), query_along.data());
                const T* outers = gather_along(grad, start, length, head, k.d, outer.data(), outer_along.data());
                for (int64_t block = 0; block < length; block += BLOCK) {
                    int64_t end = block + BLOCK < length ? block + BLOCK : length;
                    for (int64_t i = block; i < end; i += R) {
                        float *pi = p.data() + (i - block) * lp, *di = ds.data() + (i - block) * lp, scales[R];
                        int64_t last = i + R - 1 < length ? i + R - 1 : length - 1;
                        int64_t first = k.first_seen(i) / W * W, stop = k.end_seen(last, length);
                        probabilities(k, query.data(), keys_t.data(), i, length, pi, scales);
                        products(outer.data() + i * (dp / per), values_t.data(), dp / per, lp, first, stop, di);
                        for (int64_t r = 0; r < R; ++r) {
                            float* dr = di + r * lp;
                            if (i + r < length)
                                softmax_backward(k, pi + r * lp, dr, whole.data(), scales[r], start + i + r, head, first, stop);
                            else
                                std::memset(dr, 0, sizeof(float) * lp);
                            for (int64_t j = 0; j < first; j += W) store(dr + j, F{});
                            for (int64_t j = rounded(stop, W); j < lp; j += W) store(dr + j, F{});
                        }
                        std::memset(dq.data(), 0, sizeof(float) * R * dp);
                        combine(along_keys(di, R, lp, units.data()), lp / per, 1, keys, first / per, rounded(stop, per) / per, dp,
                                dq.data());
                        for (int64_t r = 0; r < R && i + r < length; ++r)
                            for (int64_t c = 0; c < k.d; c += W)
                                store(grad_q.at(start + i + r, head) + c, load(dq.data() + r * dp + c) * k.scale, (int)(k.d - c));
                    }
                    int64_t count = rounded(end - block, R), items = count / per;
                    const T* w = along_queries(p.data(), count, lp, units.data());
                    for (int64_t j = 0; j < length; j += R)
                        combine(w + j, 1, lp, outers + block / per * dp, 0, items, dp, dv.data() + j * dp);
                    w = along_queries(ds.data(), count, lp, units.data());
                    for (int64_t j = 0; j < length; j += R)
                        combine(w + j, 1, lp, queries + block / per * dp, 0, items, dp, dk.data() + j * dp);
                }
            }
            for (int64_t i = 0; i < length; ++i)
                for (int64_t c = 0; c < k.d; c += W) {
                    store(grad_key.at(start + i, from) + c, load(dk.data() + i * dp + c) * k.scale, (int)(k.d - c));
                    store(grad_value.at(start + i, from) + c, load(dv.data() + i * dp + c), (int)(k.d - c));
                }
        }
    }
}

}  // namespace

// --- what Python calls; `low` says that activations are bf16 ----------------------------------------------------------------

#define BY_TYPE(low, call)            \
    if (low) {                        \
        using E = bf16;               \
        call;                         \
    } else {                          \
        using E = float;              \
        call;                         \
    }

#define BY_ACTIVATION(kind, call)           \
    switch (kind) {                         \
        case GELU_TANH: {                   \
            constexpr int A = GELU_TANH;    \
            call;                           \
            break;                          \
        }                                   \
        case RELU: {                        \
            constexpr int A = RELU;         \
            call;                           \
            break;                          \
        }                                   \
        default: {                          \
            constexpr int A = GELU;         \
            call;                           \
        }                                   \
    }

extern "C" {

void textune_activation_forward(int low, int kind, int threads, int64_t rows, int64_t width, const void* x, const float* bias,
                                void* y) {
    BY_TYPE(low, BY_ACTIVATION(kind, (activation_forward<E, A>((const E*)x, bias, (E*)y, rows, width, threads))))
}

void textune_activation_backward(int low, int kind, int threads, int64_t rows, int64_t width, const void* x, const float* bias,
                                 void* grad, float* grad_bias) {
    BY_TYPE(low, BY_ACTIVATION(kind, (activation_backward<E, A>((const E*)x, bias, (E*)grad, grad_bias, rows, width, threads))))
}

void textune_dropout(int low, int threads, int64_t rows, int64_t width, double p, uint64_t seed, const void* x, void* y) {
    Dropout dropout(p, seed);
    BY_TYPE(low, (dropped<E>((const E*)x, (E*)y, rows, width, dropout, threads)))
}

void textune_column_sums(int low, int threads, int64_t rows, int64_t width, const void* x, float* out) {
    BY_TYPE(low, (column_sums<E>((const E*)x, out, rows, width, threads)))
}

void textune_norm_forward(int low, int threads, int64_t rows, int64_t width, float eps, double dropout, uint64_t seed,
                          const void* x, const float* bias, const float* residual, const float* gamma, const float* beta,
                          float* y, void* y_low, float* means, float* scales) {
    Norm k{bias, gamma, beta, eps, rows, width, Dropout(dropout, seed), threads};
    BY_TYPE(low, (norm_forward<E>(k, (const E*)x, residual, y, (E*)y_low, means, scales)))
}

void textune_norm_backward(int low, int threads, int64_t rows, int64_t width, float eps, double dropout, uint64_t seed,
                           const void* x, const float* bias, const float* residual, const float* gamma, const float* beta,
                           const float* means, const float* scales, const float* grad, const void* grad_low,
                           float* grad_residual, void* grad_x, float* grad_gamma, float* grad_beta, float* grad_bias) {
    Norm k{bias, gamma, beta, eps, rows, width, Dropout(dropout, seed), threads};
    BY_TYPE(low, (norm_backward<E>(k, (const E*)x, residual, means, scales, grad, (const E*)grad_low, grad_residual, (E*)grad_x,
                                   grad_gamma, grad_beta, grad_bias)))
}

// strides: token and head strides of query, key, value, output, in elements
void textune_attention_forward(int low, int threads, int64_t rows, int64_t tokens, int64_t heads, int64_t key_heads, int64_t d,
                               int64_t window, int causal, float scale, double dropout, uint64_t seed, const int64_t* starts,
                               const int64_t* lengths, const int64_t* strides, const void* q, const void* key,
                               const void* value, void* out) {
    Attention k{starts, lengths, rows, tokens, heads, key_heads, d, window, causal, scale, Dropout(dropout, seed), threads};
    const int64_t* s = strides;
    BY_TYPE(low, (attention_forward<E>(k, {(const E*)q, s[0], s[1]}, {(const E*)key, s[2], s[3]}, {(const E*)value, s[4], s[5]},
                                       {(E*)out, s[6], s[7]})))
}

// strides: of query, key, value, the output's gradient, and the gradients of query, key, value
void textune_attention_backward(int low, int threads, int64_t rows, int64_t tokens, int64_t heads, int64_t key_heads, int64_t d,
                                int64_t window, int causal, float scale, double dropout, uint64_t seed, const int64_t* starts,
                                const int64_t* lengths, const int64_t* strides, const void* q, const void* key,
                                const void* value, const void* grad, void* grad_q, void* grad_key, void* grad_value) {
    Attention k{starts, lengths, rows, tokens, heads, key_heads, d, window, causal, scale, Dropout(dropout, seed), threads};
    const int64_t* s = strides;
    BY_TYPE(low, (attention_backward<E>(k, {(const E*)q, s[0], s[1]}, {(const E*)key, s[2], s[3]},
                                        {(const E*)value, s[4], s[5]}, {(const E*)grad, s[6], s[7]},
                                        {(E*)grad_q, s[8], s[9]}, {(E*)grad_key, s[10], s[11]},
                                        {(E*)grad_value, s[12], s[13]})))
}
}
