// AdamW over all weights of a model in one pass: gradients, moments and weights are read once and written once, and so is the
// copy of a weight that the products read. What PyTorch does in two passes (norm, then clipped gradients and update) with one
// call for each tensor. Bound by memory, so the inner loops are plain C++ for the compiler's own vectors.

#include "call.h"
#include "vectors.h"

namespace {

// One tensor; `copy` is null where no other copy of it is kept.
struct Update {
    int64_t count;
    float* weight;
    const float* grad;
    float *mean, *square;  // the moments: running means of the gradient and of its square
    void* copy;
    int64_t copy_is_low;   // bf16, not fp32
    double decay;          // 1 - learning rate x weight decay
    double step_size;      // learning rate / (1 - beta1^step)
    double root_scale;     // 1 / sqrt(1 - beta2^step)
};

struct AdamW {
    double beta1, beta2, eps, max_norm;
};

struct AdamWCall : Call {
    int64_t tensors;
    const Update* updates;
    AdamW rule;
    double* norm;  // the result: the gradients' norm before they were clipped
};

struct Stretch {
    int64_t tensor, from, count;
};

constexpr int64_t STRETCH = 1 << 14;  // numbers; sums of squares are added up stretch by stretch, whatever the threads

inline float sum_of_squares(const float* x, int64_t count) {
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; ++i) total += x[i] * x[i];
    return total;
}

inline uint16_t nearest_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)(x != x ? 0x7fc0u : rounded);
}

inline void update(const AdamW& k, const Update& u, const Stretch& s, float scale) {
    float* __restrict weight = u.weight + s.from;
    const float* __restrict grad = u.grad + s.from;
    float* __restrict mean = u.mean + s.from;
    float* __restrict square = u.square + s.from;
    const float new_mean = (float)(1.0 - k.beta1), old_square = (float)k.beta2, new_square = (float)(1.0 - k.beta2);
    const float eps = (float)k.eps, decay = (float)u.decay, step_size = (float)u.step_size, root_scale = (float)u.root_scale;
#pragma omp simd
    for (int64_t i = 0; i < s.count; ++i) {
        float g = grad[i] * scale;
        float m = mean[i] + new_mean * (g - mean[i]);
        float v = old_square * square[i] + new_square * g * g;
        mean[i] = m;
        square[i] = v;
        weight[i] = weight[i] * decay - step_size * m / (__builtin_sqrtf(v) * root_scale + eps);
    }
    if (u.copy == nullptr) return;
    if (!u.copy_is_low) {
        std::memcpy((float*)u.copy + s.from, weight, sizeof(float) * s.count);
        return;
    }
    uint16_t* __restrict copy = (uint16_t*)u.copy + s.from;
#pragma omp simd
    for (int64_t i = 0; i < s.count; ++i) copy[i] = nearest_bf16(weight[i]);
}

// Writes the gradients' norm; where it is not finite no weight and no moment is changed.
int adamw(const AdamW& k, const Update* updates, int64_t tensors, double* norm, int threads) {
    int64_t stretches = 0;
    for (int64_t t = 0; t < tensors; ++t) stretches += (updates[t].count + STRETCH - 1) / STRETCH;
    Scratch scratch(room(stretches, sizeof(Stretch)) + room(stretches, sizeof(double)), 1);
    if (!scratch) return NO_MEMORY;
    Scratch::Part part = scratch.part(0);
    Stretch* all = part.take<Stretch>(stretches);
    double* sums = part.take<double>(stretches);
    int64_t next = 0;
    for (int64_t t = 0; t < tensors; ++t)
        for (int64_t from = 0; from < updates[t].count; from += STRETCH) {
            int64_t left = updates[t].count - from;
            all[next++] = {t, from, left < STRETCH ? left : STRETCH};
        }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < stretches; ++i) sums[i] = sum_of_squares(updates[all[i].tensor].grad + all[i].from, all[i].count);
    double total = 0.0;
    for (int64_t i = 0; i < stretches; ++i) total += sums[i];
    *norm = __builtin_sqrt(total);
    if (!__builtin_isfinite(*norm)) return DONE;
    double clipped = k.max_norm / (*norm + 1e-6);
    float scale = clipped < 1.0 ? (float)clipped : 1.0f;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < stretches; ++i) update(k, updates[all[i].tensor], all[i], scale);
    return DONE;
}

}  // namespace

EXPORTED textune_adamw(const AdamWCall* k) {
    if (int wrong = mistake(k)) return wrong;
    if (k->tensors < 0) return OUT_OF_RANGE;
    for (int64_t t = 0; t < k->tensors; ++t)
        if (k->updates[t].count < 0) return OUT_OF_RANGE;
    return adamw(k->rule, k->updates, k->tensors, k->norm, (int)k->threads);
}
