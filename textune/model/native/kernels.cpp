// What a packed transformer computes between its matrix products, in one pass each; compiled by build.py for this processor.
//
// Arithmetic is fp32 whatever the storage (float or bfloat16). Dropout masks are never stored: forward and backward draw the
// same bits from (seed, index). Every sum runs in a fixed order for a given number of threads, so results repeat exactly.
// Each function returns 0, or 1 where there is no memory.
//
// Names: T tokens, H hidden, d head width, L tokens of a row.

#include "attention.h"
#include "vectors.h"

namespace {

// --- activation -------------------------------------------------------------------------------------------------------

enum Activation { GELU = 0, GELU_TANH = 1, RELU = 2 };

template <int A>
inline F activate(F x) {
    if (A == RELU) return x < 0.0f ? F{} : x;
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
int norm_forward(const Norm& k, const E* x, const float* residual, float* y, E* y_low, float* means, float* scales) {
    Scratch scratch(room(k.width + W, sizeof(float)), k.threads);
    if (!scratch) return 1;
#pragma omp parallel num_threads(k.threads)
    {
        float* buffer = scratch.part(omp_get_thread_num()).take<float>(k.width + W);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < k.rows; ++r) {
            uint32_t key = k.dropout.row((uint32_t)r);
            F total{}, factor;
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F s = summed(k, x, residual, r, c, n, key, &factor);
                store(buffer + c, s, n);
                total += load(buffer + c, n);
            }
            float mean = sum(total) / (float)k.width;
            F squares{};
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F off = load(buffer + c, n) - mean;
                if (n < W) off = lane() < (float)n ? off : F{};
                squares += off * off;
            }
            float scale = 1.0f / __builtin_sqrtf(sum(squares) / (float)k.width + k.eps);
            means[r] = mean;
            scales[r] = scale;
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F out = (load(buffer + c, n) - mean) * scale * load(k.gamma + c, n) + load(k.beta + c, n);
                store(y + r * k.width + c, out, n);
                if (y_low) store(y_low + r * k.width + c, out, n);
            }
        }
    }
    return 0;
}

// Takes dL/dy in two parts (fp32, and in low precision or null); gives dL/dresidual, dL/dx and the sums for gamma, beta, bias.
template <typename E>
int norm_backward(const Norm& k, const E* x, const float* residual, const float* means, const float* scales, const float* grad,
                  const E* grad_low, float* grad_residual, E* grad_x, float* grad_gamma, float* grad_beta, float* grad_bias) {
    Partials partials(3 * k.width, k.threads, 3 * room(k.width + W, sizeof(float)));
    if (!partials) return 1;
#pragma omp parallel for num_threads(k.threads) schedule(static, 1)
    for (int t = 0; t < k.threads; ++t) {
        Scratch::Part part = partials.scratch.part(t);
        float *for_gamma = part.take<float>(3 * k.width), *for_beta = for_gamma + k.width, *for_bias = for_beta + k.width;
        float *normed = part.take<float>(k.width + W), *scaled = part.take<float>(k.width + W);
        float* factors = part.take<float>(k.width + W);
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
                store(normed + c, hat, n);
                store(scaled + c, dg, n);
                store(factors + c, factor, n);
            }
            float mean_scaled = sum(sum_scaled) / (float)k.width, mean_product = sum(sum_product) / (float)k.width;
            for (int64_t c = 0; c < k.width; c += W) {
                int n = (int)(k.width - c);
                F ds = (load(scaled + c, n) - mean_scaled - load(normed + c, n) * mean_product) * scales[r];
                F dx = ds * load(factors + c, n);
                store(grad_residual + r * k.width + c, ds, n);
                store(grad_x + r * k.width + c, dx, n);
                store(for_bias + c, load(for_bias + c, n) + dx, n);
            }
        }
    }
    partials.into(grad_gamma, 0, k.width);
    partials.into(grad_beta, k.width, k.width);
    partials.into(grad_bias, 2 * k.width, k.width);
    return 0;
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

int textune_activation_forward(int low, int kind, int threads, int64_t rows, int64_t width, const void* x, const float* bias,
                                void* y) {
    int status = 0;
    BY_TYPE(low, BY_ACTIVATION(kind, status = (activation_forward<E, A>((const E*)x, bias, (E*)y, rows, width, threads))))
    return status;
}

int textune_activation_backward(int low, int kind, int threads, int64_t rows, int64_t width, const void* x, const float* bias,
                                 void* grad, float* grad_bias) {
    int status = 0;
    BY_TYPE(low, BY_ACTIVATION(kind, status = (activation_backward<E, A>((const E*)x, bias, (E*)grad, grad_bias, rows, width, threads))))
    return status;
}

int textune_dropout(int low, int threads, int64_t rows, int64_t width, double p, uint64_t seed, const void* x, void* y) {
    Dropout dropout(p, seed);
    int status = 0;
    BY_TYPE(low, status = (dropped<E>((const E*)x, (E*)y, rows, width, dropout, threads)))
    return status;
}

int textune_column_sums(int low, int threads, int64_t rows, int64_t width, const void* x, float* out) {
    int status = 0;
    BY_TYPE(low, status = (column_sums<E>((const E*)x, out, rows, width, threads)))
    return status;
}

int textune_norm_forward(int low, int threads, int64_t rows, int64_t width, float eps, double dropout, uint64_t seed,
                          const void* x, const float* bias, const float* residual, const float* gamma, const float* beta,
                          float* y, void* y_low, float* means, float* scales) {
    Norm k{bias, gamma, beta, eps, rows, width, Dropout(dropout, seed), threads};
    int status = 0;
    BY_TYPE(low, status = (norm_forward<E>(k, (const E*)x, residual, y, (E*)y_low, means, scales)))
    return status;
}

int textune_norm_backward(int low, int threads, int64_t rows, int64_t width, float eps, double dropout, uint64_t seed,
                           const void* x, const float* bias, const float* residual, const float* gamma, const float* beta,
                           const float* means, const float* scales, const float* grad, const void* grad_low,
                           float* grad_residual, void* grad_x, float* grad_gamma, float* grad_beta, float* grad_bias) {
    Norm k{bias, gamma, beta, eps, rows, width, Dropout(dropout, seed), threads};
    int status = 0;
    BY_TYPE(low, status = (norm_backward<E>(k, (const E*)x, residual, means, scales, grad, (const E*)grad_low, grad_residual, (E*)grad_x,
                                   grad_gamma, grad_beta, grad_bias)))
    return status;
}

// strides: token and head strides of query, key, value, output, in elements
int textune_attention_forward(int low, int threads, int64_t rows, int64_t tokens, int64_t heads, int64_t key_heads, int64_t d,
                               int64_t window, int causal, int first_only, float scale, double dropout, uint64_t seed, const int64_t* starts,
                               const int64_t* lengths, const int64_t* strides, const void* q, const void* key,
                               const void* value, void* out) {
    Attention k{starts, lengths, rows, tokens, heads, key_heads, d, window, causal, first_only, scale, Dropout(dropout, seed), threads};
    const int64_t* s = strides;
    int status = 0;
    BY_TYPE(low, status = (attention_forward<E>(k, {(const E*)q, s[0], s[1]}, {(const E*)key, s[2], s[3]}, {(const E*)value, s[4], s[5]},
                                       {(E*)out, s[6], s[7]})))
    return status;
}

// strides: of query, key, value, the output's gradient, and the gradients of query, key, value
int textune_attention_backward(int low, int threads, int64_t rows, int64_t tokens, int64_t heads, int64_t key_heads, int64_t d,
                                int64_t window, int causal, int first_only, float scale, double dropout, uint64_t seed, const int64_t* starts,
                                const int64_t* lengths, const int64_t* strides, const void* q, const void* key,
                                const void* value, const void* grad, void* grad_q, void* grad_key, void* grad_value) {
    Attention k{starts, lengths, rows, tokens, heads, key_heads, d, window, causal, first_only, scale, Dropout(dropout, seed), threads};
    const int64_t* s = strides;
    int status = 0;
    BY_TYPE(low, status = (attention_backward<E>(k, {(const E*)q, s[0], s[1]}, {(const E*)key, s[2], s[3]},
                                        {(const E*)value, s[4], s[5]}, {(const E*)grad, s[6], s[7]},
                                        {(E*)grad_q, s[8], s[9]}, {(E*)grad_key, s[10], s[11]},
                                        {(E*)grad_value, s[12], s[13]})))
    return status;
}
}
