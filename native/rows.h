// Products and softmax of a few rows at a time, for attention whose scores are more than one product (disentangled.h).

#pragma once

#include "attention.h"

namespace {

constexpr int R = 4;       // queries computed together
constexpr int BLOCK = 32;  // queries whose probabilities the backward pass keeps at once

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

}  // namespace
