// What stands between the matrix products of a packed transformer and works number by number: activations, dropout, sums.

#pragma once

#include "vectors.h"

namespace {

// --- activation -------------------------------------------------------------------------------------------------------

enum Activation { GELU = 0, GELU_TANH = 1, RELU = 2 };

// x * P(x^2) / Q(x^2): an odd function, fitted over -5.6 to 5.6 by iterated least squares, and constant beyond.
inline F odd_ratio(F x, const float (&p)[6], const float (&q)[6]) {
    x = x < -5.6f ? splat(-5.6f) : x;
    x = x > 5.6f ? splat(5.6f) : x;
    F u = x * x * (1.0f / (5.6f * 5.6f)), above = splat(p[5]), below = splat(q[5]);
    for (int i = 4; i >= 0; --i) {
        above = above * u + p[i];
        below = below * u + q[i];
    }
    return x * above / below;
}

inline F normal_cdf(F x) {  // absolute error below 2e-7
    constexpr float P[] = {0.398942232f, 1.07799363f, 4.62924719f, 5.36118364f, 6.14738750f, 0.671644092f};
    constexpr float Q[] = {1.0f, 7.92876625f, 28.4603119f, 58.9951782f, 72.6291046f, 35.7942963f};
    return 0.5f + odd_ratio(x, P, Q);
}

inline F gelu_slope(F x) {  // cdf(x) + x * density(x); absolute error below 3e-7
    constexpr float P[] = {0.797885358f, -0.971376896f, 13.9906015f, 0.609340727f, 34.7207947f, 5.82850313f};
    constexpr float Q[] = {1.0f, 9.23614693f, 40.3055611f, 108.641930f, 185.749329f, 270.795135f};
    return 0.5f + odd_ratio(x, P, Q);
}

template <int A>
inline F activate(F x) {
    if (A == RELU) return x < 0.0f ? F{} : x;
    if (A == GELU_TANH) return 0.5f * x * (1.0f + tanh_(0.79788456f * (x + 0.044715f * x * x * x)));
    return x * normal_cdf(x);
}

template <int A>
inline F slope(F x) {
    if (A == RELU) return x > 0.0f ? splat(1.0f) : F{};
    if (A == GELU_TANH) {
        F t = tanh_(0.79788456f * (x + 0.044715f * x * x * x));
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.79788456f * (1.0f + 0.134145f * x * x);
    }
    return gelu_slope(x);
}

// Column sums of all threads, added up in the order of the threads.
struct Partials {
    int64_t width, threads;
    Scratch scratch;
    Partials(int64_t width, int threads, size_t more = 0)
        : width(width), threads(threads), scratch(room(width, sizeof(float)) + more, threads) {}
    explicit operator bool() const { return (bool)scratch; }
    float* of(int thread) const { return scratch.part(thread).take<float>(width); }
    void into(float* out, int64_t offset, int64_t count) const {
        for (int64_t c = 0; c < count; ++c) {
            float total = 0.0f;
            for (int t = 0; t < threads; ++t) total += of(t)[offset + c];
            out[c] = total;
        }
    }
};

inline int64_t share(int64_t count, int part, int parts) { return count * part / parts; }

template <typename E, int A>
int activation_forward(const E* x, const float* bias, E* y, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < width; c += W) {
            int n = (int)(width - c);
            store(y + r * width + c, activate<A>(load(x + r * width + c, n) + load(bias + c, n)), n);
        }
    return 0;
}

template <typename E, int A>
int activation_backward(const E* x, const float* bias, E* grad, float* grad_bias, int64_t rows, int64_t width, int threads) {
    Partials partials(width, threads);
    if (!partials) return 1;
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
    return 0;
}

template <typename E>
int dropped(const E* x, E* y, int64_t rows, int64_t width, const Dropout& dropout, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; ++r) {
        uint32_t key = dropout.row((uint32_t)r);
        for (int64_t c = 0; c < width; c += W) {
            int n = (int)(width - c);
            store(y + r * width + c, load(x + r * width + c, n) * dropout.factor(key, (uint32_t)c), n);
        }
    }
    return 0;
}

template <typename E>
int column_sums(const E* x, float* out, int64_t rows, int64_t width, int threads) {
    Partials partials(width, threads);
    if (!partials) return 1;
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
    return 0;
}

}  // namespace
