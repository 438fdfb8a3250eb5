// What a packed transformer computes between its matrix products, in one pass each: the functions that Python calls.
//
// Arithmetic is fp32 whatever the storage (float or bfloat16). Dropout masks are never stored: forward and backward draw the
// same bits from (seed, index). Every sum runs in a fixed order for a given number of threads, so results repeat exactly.
//
// Names: T tokens, H hidden, d head width, L tokens of a row.

#include "attention.h"
#include "call.h"
#include "elementwise.h"
#include "norm.h"

// --- elementwise ------------------------------------------------------------------------------------------------------

struct ActivationCall : Call {
    int64_t kind, rows, width;
    const void* x;
    const float* bias;
    void* y;           // forward: the result
    void* grad;        // backward: the result's gradient, replaced by that of x
    float* grad_bias;
};

#define BY_ACTIVATION(kind, work)         \
    switch (kind) {                       \
        case GELU_TANH: {                 \
            constexpr int A = GELU_TANH;  \
            work;                         \
            break;                        \
        }                                 \
        case RELU: {                      \
            constexpr int A = RELU;       \
            work;                         \
            break;                        \
        }                                 \
        default: {                        \
            constexpr int A = GELU;       \
            work;                         \
        }                                 \
    }

static int check(const ActivationCall* k) {
    if (int wrong = mistake(k)) return wrong;
    return k->kind < GELU || k->kind > RELU || k->rows < 0 || k->width < 1 ? OUT_OF_RANGE : DONE;
}

EXPORTED textune_activation_forward(const ActivationCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, BY_ACTIVATION(k->kind, answer = (activation_forward<E, A>((const E*)k->x, k->bias, (E*)k->y, k->rows,
                                                                              k->width, (int)k->threads))))
    return answer;
}

EXPORTED textune_activation_backward(const ActivationCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, BY_ACTIVATION(k->kind, answer = (activation_backward<E, A>((const E*)k->x, k->bias, (E*)k->grad, k->grad_bias,
                                                                               k->rows, k->width, (int)k->threads))))
    return answer;
}

struct DropoutCall : Call {
    int64_t rows, width;
    double probability;
    uint64_t seed;
    const void* x;
    void* y;
};

EXPORTED textune_dropout(const DropoutCall* k) {
    int answer = mistake(k);
    if (answer) return answer;
    if (k->rows < 0 || k->width < 1 || !(k->probability >= 0 && k->probability < 1)) return OUT_OF_RANGE;
    Dropout dropout(k->probability, k->seed);
    BY_TYPE(k->low, answer = (dropped<E>((const E*)k->x, (E*)k->y, k->rows, k->width, dropout, (int)k->threads)))
    return answer;
}

struct ColumnSumsCall : Call {
    int64_t rows, width;
    const void* x;
    float* sums;
};

EXPORTED textune_column_sums(const ColumnSumsCall* k) {
    int answer = mistake(k);
    if (answer) return answer;
    if (k->rows < 0 || k->width < 1) return OUT_OF_RANGE;
    BY_TYPE(k->low, answer = (column_sums<E>((const E*)k->x, k->sums, k->rows, k->width, (int)k->threads)))
    return answer;
}

// --- norms ------------------------------------------------------------------------------------------------------------

struct NormCall : Call {
    int64_t rows, width;
    double eps, dropout;
    uint64_t seed;
    const void* x;
    const float *bias, *residual, *gamma, *beta;
    float *y, *means, *scales;  // results of the forward pass; the backward pass reads means and scales
    void* y_low;                // y in the type of x, where that is bf16
    const float* grad;          // from here on: backward alone
    const void* grad_low;       // added to grad, where there is one
    float* grad_residual;
    void* grad_x;
    float *grad_gamma, *grad_beta, *grad_bias;
};

static int check(const NormCall* k) {
    if (int wrong = mistake(k)) return wrong;
    return k->rows < 0 || k->width < 1 || !(k->dropout >= 0 && k->dropout < 1) ? OUT_OF_RANGE : DONE;
}

static Norm norm_of(const NormCall* k) {
    return {k->bias, k->gamma, k->beta, (float)k->eps, k->rows, k->width, Dropout(k->dropout, k->seed), (int)k->threads};
}

EXPORTED textune_norm_forward(const NormCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = (norm_forward<E>(norm_of(k), (const E*)k->x, k->residual, k->y, (E*)k->y_low, k->means, k->scales)))
    return answer;
}

EXPORTED textune_norm_backward(const NormCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = (norm_backward<E>(norm_of(k), (const E*)k->x, k->residual, k->means, k->scales, k->grad,
                                               (const E*)k->grad_low, k->grad_residual, (E*)k->grad_x, k->grad_gamma,
                                               k->grad_beta, k->grad_bias)))
    return answer;
}

// --- attention --------------------------------------------------------------------------------------------------------

template <typename E>
static View<E> view(const Tensor& tensor) {
    return {(E*)tensor.data, tensor.token, tensor.head};
}

struct AttentionCall : Call {
    int64_t rows, tokens, heads, key_heads, d, window, causal, first_only;
    double scale, dropout;
    uint64_t seed;
    const int64_t *starts, *lengths;
    Tensor query, key, value;
    Tensor output;  // forward: the result; backward: its gradient
    Tensor grad_query, grad_key, grad_value;
};

static int check(const AttentionCall* k) {
    if (int wrong = mistake(k)) return wrong;
    if (k->rows < 0 || k->tokens < 0 || k->d < 1 || k->window < 0 || k->key_heads < 1) return OUT_OF_RANGE;
    if (k->heads < k->key_heads || k->heads % k->key_heads || !(k->dropout >= 0 && k->dropout < 1)) return OUT_OF_RANGE;
    int64_t next = 0;
    for (int64_t row = 0; row < k->rows; ++row) {  // rows follow each other and lie within the tokens
        int64_t least = k->first_only ? 1 : 0;
        if (k->starts[row] < next || k->lengths[row] < least || k->lengths[row] > k->tokens - k->starts[row]) return OUT_OF_RANGE;
        next = k->starts[row] + k->lengths[row];
    }
    return DONE;
}

static Attention attention_of(const AttentionCall* k) {
    return {k->starts, k->lengths, k->rows, k->tokens, k->heads, k->key_heads, k->d, k->window,
            (int)k->causal, (int)k->first_only, (float)k->scale, Dropout(k->dropout, k->seed), (int)k->threads};
}

EXPORTED textune_attention_forward(const AttentionCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = (attention_forward<E>(attention_of(k), view<const E>(k->query), view<const E>(k->key),
                                                   view<const E>(k->value), view<E>(k->output))))
    return answer;
}

EXPORTED textune_attention_backward(const AttentionCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = (attention_backward<E>(attention_of(k), view<const E>(k->query), view<const E>(k->key),
                                                    view<const E>(k->value), view<const E>(k->output), view<E>(k->grad_query),
                                                    view<E>(k->grad_key), view<E>(k->grad_value))))
    return answer;
}
