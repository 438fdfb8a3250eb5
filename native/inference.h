// Layers as prediction computes them: block by block of rows, from the input of one product to the next norm, without a way
// through memory and without what a backward pass would need.

#pragma once

#include "elementwise.h"
#include "panels.h"

namespace {

constexpr int64_t BLOCK_ROWS = 48;  // at most; weights are read once for each block, and its numbers stay in the cache

// Rows of a block: as many for each thread, in as few blocks as can be.
inline int64_t rows_of_block(int64_t count, int threads) {
    int64_t each = (count + threads - 1) / threads, blocks = (each + BLOCK_ROWS - 1) / BLOCK_ROWS;
    return blocks ? (each + blocks - 1) / blocks : 1;
}

// Up to three products of the same rows, results side by side.
template <typename P>
struct Projections {
    Weights<P> weights[3];
    int count;
    int64_t outputs() const {
        int64_t total = 0;
        for (int i = 0; i < count; ++i) total += weights[i].outputs;
        return total;
    }
};

template <typename P, typename O>
int project(const Projections<P>& projections, const float* x, O* y, int64_t count, int threads) {
    int64_t block = rows_of_block(count, threads), width = projections.weights[0].inputs, outputs = projections.outputs();
    Scratch scratch(rows_room<P>(block, width), threads);
    if (!scratch) return 1;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t start = 0; start < count; start += block) {
        Scratch::Part part = scratch.part(omp_get_thread_num());
        Rows rows = take_rows<P>(part, block, width);
        int64_t n = count - start < block ? count - start : block;
        for (int64_t r = 0; r < n; ++r) Prepare<P>::row(x + (start + r) * width, width, rows, r);
        O* out = y + start * outputs;
        for (int i = 0; i < projections.count; ++i) {
            const Weights<P>& weights = projections.weights[i];
            products<P>(rows, n, weights, [&](int64_t r, int64_t c, F v) {
                store(out + r * outputs + c, v, (int)(weights.outputs - c));
            });
            out += weights.outputs;
        }
    }
    return 0;
}

// --- a layer behind its attention ---------------------------------------------------------------------------------------

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

template <typename P, int A>
struct Activate {
    static F of(F x) { return activate<A>(x); }
};

// What becomes one of 256 levels needs no more than this: x times a polynomial's normal CDF, off by less than 5e-5 for |x| < 5.
inline F near_gelu(F x, const float (&factors)[9]) {
    F bounded = x > 4.2f ? splat(4.2f) : x < -4.2f ? splat(-4.2f) : x, square = bounded * bounded, p = splat(factors[0]);
    for (int i = 1; i < 9; ++i) p = p * square + factors[i];
    return x * (bounded * p + 0.5f);
}
template <>
struct Activate<Bytes, GELU> {
    static F of(F x) {
        constexpr float factors[9] = {4.92380335e-11f,  -4.79565062e-09f, 2.07247292e-07f,  -5.28955915e-06f, 8.98358958e-05f,
                                      -1.08645878e-03f, 9.74093958e-03f,  -6.62220761e-02f, 3.98834578e-01f};
        return near_gelu(x, factors);
    }
};
template <>
struct Activate<Bytes, GELU_TANH> {
    static F of(F x) {
        constexpr float factors[9] = {5.85341228e-11f,  -5.60993126e-09f, 2.37425235e-07f,  -5.90235123e-06f, 9.71791476e-05f,
                                      -1.13799750e-03f, 9.93288342e-03f,  -6.64932432e-02f, 3.98807233e-01f};
        return near_gelu(x, factors);
    }
};

template <typename P>
struct Layer {
    Weights<P> mix, inner, output;
    RowNorm first, second;
};

// middle = first(residual + mix(attended)), y = second(middle + output(activation(inner(middle)))).
template <typename P, int A, typename E>
int finish_layer(const Layer<P>& k, const E* attended, const float* residual, float* y, int64_t count, int threads) {
    int64_t block = rows_of_block(count, threads), from = k.mix.inputs, width = k.mix.outputs, inner = k.inner.outputs;
    int64_t padded = (inner + W - 1) / W * W, widest = inner > width ? inner : width;
    widest = from > widest ? from : widest;
    Scratch scratch(rows_room<P>(block, widest) + room(block * padded, sizeof(float)) + room(block * width, sizeof(float)), threads);
    if (!scratch) return 1;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t start = 0; start < count; start += block) {
        Scratch::Part part = scratch.part(omp_get_thread_num());
        Rows rows = take_rows<P>(part, block, widest);
        float *wide = part.take<float>(block * padded), *middle = part.take<float>(block * width), *out = y + start * width;
        int64_t n = count - start < block ? count - start : block;
        for (int64_t r = 0; r < n; ++r) Prepare<P>::row(attended + (start + r) * from, from, rows, r);
        products<P>(rows, n, k.mix, [&](int64_t r, int64_t c, F v) {
            int left = (int)(width - c);
            store(middle + r * width + c, v + load(residual + (start + r) * width + c, left), left);
        });
        for (int64_t r = 0; r < n; ++r) {
            k.first(middle + r * width, width);
            Prepare<P>::row(middle + r * width, width, rows, r);
        }
        products<P>(rows, n, k.inner, [&](int64_t r, int64_t c, F v) { store(wide + r * padded + c, Activate<P, A>::of(v)); });
        for (int64_t r = 0; r < n; ++r) Prepare<P>::row(wide + r * padded, inner, rows, r);
        products<P>(rows, n, k.output, [&](int64_t r, int64_t c, F v) {
            int left = (int)(width - c);
            store(out + r * width + c, v + load(middle + r * width + c, left), left);
        });
        for (int64_t r = 0; r < n; ++r) k.second(out + r * width, width);
    }
    return 0;
}

}  // namespace
