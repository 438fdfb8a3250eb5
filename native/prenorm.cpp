// The functions that Python calls for layers that normalise first; kernels.cpp says what holds for all of them.

#include "prenorm.h"

#include "call.h"

// --- residual sums and norms ------------------------------------------------------------------------------------------

struct ResidualNormCall : Call {
    int64_t rows, width, centred;
    double eps, dropout;
    uint64_t seed;
    const float *bias, *gamma, *beta;
    const void* x;          // null: the total is the residual
    const float* residual;
    float *total, *means, *scales;  // results of the forward pass; the backward pass reads them
    void* y;                        // null: no norm
    const float* grad;              // from here on: backward alone
    const void* grad_y;
    float* grad_total;
    void* grad_x;
    float *grad_gamma, *grad_beta, *grad_bias;
};

static int check(const ResidualNormCall* k) {
    if (int wrong = mistake(k)) return wrong;
    return k->rows < 0 || k->width < 1 || !(k->dropout >= 0 && k->dropout < 1) ? OUT_OF_RANGE : DONE;
}

static ResidualNorm residual_norm_of(const ResidualNormCall* k) {
    return {k->bias, k->gamma, k->beta, (float)k->eps, k->rows, k->width, k->centred != 0, Dropout(k->dropout, k->seed),
            (int)k->threads};
}

EXPORTED textune_residual_norm_forward(const ResidualNormCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = (residual_norm_forward<E>(residual_norm_of(k), (const E*)k->x, k->residual, k->total, k->means,
                                                       k->scales, (E*)k->y)))
    return answer;
}

EXPORTED textune_residual_norm_backward(const ResidualNormCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = (residual_norm_backward<E>(
                        residual_norm_of(k), {k->total, k->means, k->scales, k->grad, (const E*)k->grad_y, k->grad_total,
                                              (E*)k->grad_x, k->grad_gamma, k->grad_beta, k->grad_bias})))
    return answer;
}

// --- gated activations ------------------------------------------------------------------------------------------------

struct GatedCall : Call {
    int64_t kind, rows, width;
    double dropout;
    uint64_t seed;
    const void* x;
    const float* bias;
    void* y;
    const void* grad_y;  // from here on: backward alone
    void* grad_x;
    float* grad_bias;
};

static int check(const GatedCall* k) {
    if (int wrong = mistake(k)) return wrong;
    if (k->kind < GELU || k->kind > SILU || k->rows < 0 || k->width < 1) return OUT_OF_RANGE;
    return k->dropout >= 0 && k->dropout < 1 ? DONE : OUT_OF_RANGE;
}

static Gated gated_of(const GatedCall* k) { return {k->bias, k->rows, k->width, Dropout(k->dropout, k->seed), (int)k->threads}; }

template <typename E>
static int forward(const GatedCall* k) {
    const Gated gated = gated_of(k);
    const E* x = (const E*)k->x;
    switch (k->kind) {
        case GELU: return gated_forward<E, GELU>(gated, x, (E*)k->y);
        case GELU_TANH: return gated_forward<E, GELU_TANH>(gated, x, (E*)k->y);
        case RELU: return gated_forward<E, RELU>(gated, x, (E*)k->y);
        default: return gated_forward<E, SILU>(gated, x, (E*)k->y);
    }
}

template <typename E>
static int backward(const GatedCall* k) {
    const Gated gated = gated_of(k);
    const E *x = (const E*)k->x, *grad_y = (const E*)k->grad_y;
    switch (k->kind) {
        case GELU: return gated_backward<E, GELU>(gated, x, grad_y, (E*)k->grad_x, k->grad_bias);
        case GELU_TANH: return gated_backward<E, GELU_TANH>(gated, x, grad_y, (E*)k->grad_x, k->grad_bias);
        case RELU: return gated_backward<E, RELU>(gated, x, grad_y, (E*)k->grad_x, k->grad_bias);
        default: return gated_backward<E, SILU>(gated, x, grad_y, (E*)k->grad_x, k->grad_bias);
    }
}

EXPORTED textune_gated_forward(const GatedCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = forward<E>(k))
    return answer;
}

EXPORTED textune_gated_backward(const GatedCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = backward<E>(k))
    return answer;
}

// --- rotary positions -------------------------------------------------------------------------------------------------

struct RotaryCall : Call {
    int64_t tokens, heads, d;
    double eps;
    const float *cosines, *sines, *gamma;
    Tensor source;
    Tensor result;  // backward: its gradient, replaced by that of the source
    float* grad_gamma;
};

static int check(const RotaryCall* k) {
    if (int wrong = mistake(k)) return wrong;
    return k->tokens < 0 || k->heads < 1 || k->d < 2 || k->d % 2 ? OUT_OF_RANGE : DONE;
}

static Rotary rotary_of(const RotaryCall* k) {
    return {k->tokens, k->heads, k->d, k->cosines, k->sines, k->gamma, (float)k->eps, (int)k->threads};
}

template <typename E>
static Heads<E> heads(const Tensor& tensor) {
    return {(E*)tensor.data, tensor.token, tensor.head};
}

EXPORTED textune_rotary_forward(const RotaryCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = (rotary_forward<E>(rotary_of(k), heads<const E>(k->source), heads<E>(k->result))))
    return answer;
}

EXPORTED textune_rotary_backward(const RotaryCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = (rotary_backward<E>(rotary_of(k), heads<const E>(k->source), heads<E>(k->result), k->grad_gamma)))
    return answer;
}
