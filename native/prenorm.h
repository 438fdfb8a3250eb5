// What stands between the products of layers that normalise before attention and feed-forward: residual sums with the next norm,
// gated activations, rotary positions; forward and backward, in one pass over memory each.

#pragma once

#include "elementwise.h"

namespace {

// --- total = residual + dropout(x + bias); y = norm(total) -----------------------------------------------------------------

struct ResidualNorm {
    const float *bias, *gamma, *beta;  // bias and beta may be null
    float eps;
    int64_t rows, width;
    bool centred;  // layer norm; else root mean square norm
    Dropout dropout;
    int threads;
    float mean(F total) const { return centred ? sum(total) / (float)width : 0.0f; }
};

inline F load_or_zero(const float* p, int64_t c, int n) { return p ? load(p + c, n) : F{}; }

// term(c, n) of all columns, in four sums side by side: one alone would wait for each addition.
template <typename Term>
inline F sum_of(int64_t width, Term term) {
    F a{}, b{}, d{}, e{};
    int64_t c = 0;
    for (; c + 4 * W <= width; c += 4 * W)
        a += term(c, W), b += term(c + W, W), d += term(c + 2 * W, W), e += term(c + 3 * W, W);
    for (; c < width; c += W) a += term(c, (int)(width - c));
    return (a + b) + (d + e);
}

// Without `x` the total is the residual itself and is not written; without `y` there is no norm.
template <typename E>
int residual_norm_forward(const ResidualNorm& k, const E* x, const float* residual, float* total, float* means, float* scales, E* y) {
#pragma omp parallel for num_threads(k.threads) schedule(static)
    for (int64_t r = 0; r < k.rows; ++r) {
        uint32_t key = k.dropout.row((uint32_t)r);
        const float* before = residual + r * k.width;
        const float* row = x ? total + r * k.width : before;
        F all = sum_of(k.width, [&](int64_t c, int n) {
            F s = load(before + c, n);
            if (!x) return s;
            F added = load(x + r * k.width + c, n) + load_or_zero(k.bias, c, n);
            if (k.dropout.on()) added *= k.dropout.factor(key, (uint32_t)c);
            s += added;
            store(total + r * k.width + c, s, n);
            return s;
        });
        if (!y) continue;
        float mean = k.mean(all);
        F squares = sum_of(k.width, [&](int64_t c, int n) {
            F off = load(row + c, n) - mean;
            if (n < W) off = lane() < (float)n ? off : F{};
            return off * off;
        });
        float scale = 1.0f / __builtin_sqrtf(sum(squares) / (float)k.width + k.eps);
        means[r] = mean;
        scales[r] = scale;
        for (int64_t c = 0; c < k.width; c += W) {
            int n = (int)(k.width - c);
            F normed = (load(row + c, n) - mean) * scale * load(k.gamma + c, n) + load_or_zero(k.beta, c, n);
            store(y + r * k.width + c, normed, n);
        }
    }
    return 0;
}

// What the backward pass reads and writes; `grad` is the total's gradient from elsewhere, `grad_y` that of the norm's result.
// Null where there is no such thing: `grad_y`, `grad_total` without a norm, `grad_x`.
template <typename E>
struct ResidualNormGradients {
    const float *total, *means, *scales, *grad;
    const E* grad_y;
    float* grad_total;
    E* grad_x;
    float *grad_gamma, *grad_beta, *grad_bias;
};

template <typename E>
int residual_norm_backward(const ResidualNorm& k, const ResidualNormGradients<E>& g) {
    Partials partials(3 * k.width, k.threads);
    if (!partials) return 1;
#pragma omp parallel for num_threads(k.threads) schedule(static, 1)
    for (int t = 0; t < k.threads; ++t) {
        float *for_gamma = partials.of(t), *for_beta = for_gamma + k.width, *for_bias = for_beta + k.width;
        for (int64_t r = share(k.rows, t, k.threads); r < share(k.rows, t + 1, k.threads); ++r) {
            uint32_t key = k.dropout.row((uint32_t)r);
            int64_t at = r * k.width;
            float mean = 0.0f, scale = 0.0f, mean_scaled = 0.0f, mean_product = 0.0f;
            if (g.grad_y) {
                mean = g.means[r], scale = g.scales[r];
                F sum_scaled{};
                F sum_product = sum_of(k.width, [&](int64_t c, int n) {
                    F normed = (load(g.total + at + c, n) - mean) * scale, dy = load(g.grad_y + at + c, n);
                    F scaled = dy * load(k.gamma + c, n);
                    sum_scaled += scaled;
                    store(for_gamma + c, load(for_gamma + c, n) + dy * normed, n);
                    store(for_beta + c, load(for_beta + c, n) + dy, n);
                    return scaled * normed;
                });
                mean_scaled = k.mean(sum_scaled);
                mean_product = sum(sum_product) / (float)k.width;
            }
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F d = load(g.grad + at + c, n);
                if (g.grad_y) {
                    F normed = (load(g.total + at + c, n) - mean) * scale;
                    d += (load(g.grad_y + at + c, n) * load(k.gamma + c, n) - mean_scaled - normed * mean_product) * scale;
                    store(g.grad_total + at + c, d, n);
                }
                if (g.grad_x) {
                    if (k.dropout.on()) d *= k.dropout.factor(key, (uint32_t)c);
                    store(g.grad_x + at + c, d, n);
                    store(for_bias + c, load(for_bias + c, n) + d, n);
                }
            }
        }
    }
    if (g.grad_gamma) partials.into(g.grad_gamma, 0, k.width);
    if (g.grad_beta) partials.into(g.grad_beta, k.width, k.width);
    if (g.grad_bias) partials.into(g.grad_bias, 2 * k.width, k.width);
    return 0;
}

// --- y = dropout(activation(x[:, :width] + bias) * (x[:, width:] + bias)) ---------------------------------------------------

constexpr int SILU = 3;  // the other activations have a kernel of their own too: enum Activation

template <int A>
inline void value_and_slope(F x, F* value, F* steepness) {
    if (A == SILU) {
        F half = 1.0f / (1.0f + exponential(-x));
        *value = x * half;
        *steepness = half * (1.0f + x * (1.0f - half));
    } else {
        *value = activate<A>(x);
        *steepness = slope<A>(x);
    }
}

struct Gated {
    const float* bias;  // null, or for both halves
    int64_t rows, width;
    Dropout dropout;
    int threads;
};

template <typename E, int A>
int gated_forward(const Gated& k, const E* x, E* y) {
#pragma omp parallel for num_threads(k.threads) schedule(static)
    for (int64_t r = 0; r < k.rows; ++r) {
        uint32_t key = k.dropout.row((uint32_t)r);
        const E *inner = x + r * 2 * k.width, *gate = inner + k.width;
        for (int64_t c = 0; c < k.width; c += W) {
            int n = (int)(k.width - c);
            F value, unused;
            value_and_slope<A>(load(inner + c, n) + load_or_zero(k.bias, c, n), &value, &unused);
            value *= load(gate + c, n) + load_or_zero(k.bias, k.width + c, n);
            if (k.dropout.on()) value *= k.dropout.factor(key, (uint32_t)c);
            store(y + r * k.width + c, value, n);
        }
    }
    return 0;
}

template <typename E, int A>
int gated_backward(const Gated& k, const E* x, const E* grad_y, E* grad_x, float* grad_bias) {
    Partials partials(grad_bias ? 2 * k.width : 1, k.threads);
    if (!partials) return 1;
#pragma omp parallel for num_threads(k.threads) schedule(static, 1)
    for (int t = 0; t < k.threads; ++t) {
        float* sums = partials.of(t);
        for (int64_t r = share(k.rows, t, k.threads); r < share(k.rows, t + 1, k.threads); ++r) {
            uint32_t key = k.dropout.row((uint32_t)r);
            const E *inner = x + r * 2 * k.width, *gate = inner + k.width;
            E *grad_inner = grad_x + r * 2 * k.width, *grad_gate = grad_inner + k.width;
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F value, steepness, d = load(grad_y + r * k.width + c, n);
                value_and_slope<A>(load(inner + c, n) + load_or_zero(k.bias, c, n), &value, &steepness);
                if (k.dropout.on()) d *= k.dropout.factor(key, (uint32_t)c);
                F for_inner = d * (load(gate + c, n) + load_or_zero(k.bias, k.width + c, n)) * steepness, for_gate = d * value;
                store(grad_inner + c, for_inner, n);
                store(grad_gate + c, for_gate, n);
                if (grad_bias) {
                    store(sums + c, load(sums + c, n) + for_inner, n);
                    store(sums + k.width + c, load(sums + k.width + c, n) + for_gate, n);
                }
            }
        }
    }
    if (grad_bias) partials.into(grad_bias, 0, 2 * k.width);
    return 0;
}

// --- rotary positions, after a norm of each head where the family has one --------------------------------------------------

struct Rotary {
    int64_t tokens, heads, d;  // d is even: number c turns with number c + d / 2
    const float *cosines, *sines;  // [tokens, d]
    const float* gamma;            // of the norm, or null
    float eps;
    int threads;
};

template <typename E>
struct Heads {  // [tokens, heads, d], d contiguous
    E* data;
    int64_t token, head;
    E* at(int64_t t, int64_t h) const { return data + t * token + h * head; }
};

template <typename E>
inline float head_scale(const Rotary& k, const E* x) {
    F squares = sum_of(k.d, [&](int64_t c, int n) {
        F v = load(x + c, n);
        return v * v;
    });
    return 1.0f / __builtin_sqrtf(sum(squares) / (float)k.d + k.eps);
}

// `from` and `to` may be the same tensor.
template <typename E>
int rotary_forward(const Rotary& k, Heads<const E> from, Heads<E> to) {
    int64_t half = k.d / 2;
#pragma omp parallel for num_threads(k.threads) schedule(static)
    for (int64_t t = 0; t < k.tokens; ++t) {
        const float *cosine = k.cosines + t * k.d, *sine = k.sines + t * k.d;
        for (int64_t h = 0; h < k.heads; ++h) {
            const E* x = from.at(t, h);
            E* y = to.at(t, h);
            float scale = k.gamma ? head_scale(k, x) : 1.0f;
            for (int64_t c = 0; c < half; c += W) {
                int n = (int)(half - c);
                F left = load(x + c, n), right = load(x + half + c, n);
                if (k.gamma) left *= load(k.gamma + c, n) * scale, right *= load(k.gamma + half + c, n) * scale;
                store(y + c, left * load(cosine + c, n) - right * load(sine + c, n), n);
                store(y + half + c, right * load(cosine + half + c, n) + left * load(sine + half + c, n), n);
            }
        }
    }
    return 0;
}

// Replaces the gradient of the result by that of `from`.
template <typename E>
int rotary_backward(const Rotary& k, Heads<const E> from, Heads<E> grad, float* grad_gamma) {
    int64_t half = k.d / 2;
    Partials partials(k.d, k.threads, room(k.d, sizeof(float)));
    if (!partials) return 1;
#pragma omp parallel for num_threads(k.threads) schedule(static, 1)
    for (int t = 0; t < k.threads; ++t) {
        Scratch::Part part = partials.scratch.part(t);
        float *sums = part.take<float>(k.d), *turned = part.take<float>(k.d);
        for (int64_t i = share(k.tokens, t, k.threads); i < share(k.tokens, t + 1, k.threads); ++i) {
            const float *cosine = k.cosines + i * k.d, *sine = k.sines + i * k.d;
            for (int64_t h = 0; h < k.heads; ++h) {
                E* g = grad.at(i, h);
                for (int64_t c = 0; c < half; c += W) {
                    int n = (int)(half - c);
                    F left = load(g + c, n), right = load(g + half + c, n);
                    F back_left = left * load(cosine + c, n) + right * load(sine + half + c, n);
                    F back_right = right * load(cosine + half + c, n) - left * load(sine + c, n);
                    if (k.gamma) {
                        store(turned + c, back_left, n);
                        store(turned + half + c, back_right, n);
                    } else {
                        store(g + c, back_left, n);
                        store(g + half + c, back_right, n);
                    }
                }
                if (!k.gamma) continue;
                const E* x = from.at(i, h);
                float scale = head_scale(k, x);
                F product{};
                for (int64_t c = 0; c < k.d; c += W) {
                    int n = (int)(k.d - c);
                    F normed = load(x + c, n) * scale, d = load(turned + c, n);
                    product += d * load(k.gamma + c, n) * normed;
                    store(sums + c, load(sums + c, n) + d * normed, n);
                }
                float mean_product = sum(product) / (float)k.d;
                for (int64_t c = 0; c < k.d; c += W) {
                    int n = (int)(k.d - c);
                    F normed = load(x + c, n) * scale;
                    store(g + c, (load(turned + c, n) * load(k.gamma + c, n) - normed * mean_product) * scale, n);
                }
            }
        }
    }
    if (k.gamma) partials.into(grad_gamma, 0, k.d);
    return 0;
}

}  // namespace
