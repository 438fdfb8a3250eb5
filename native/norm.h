// y = norm(residual + dropout(x + bias)), forward and backward, in one pass each; the sum is computed anew instead of kept.

#pragma once

#include "elementwise.h"

namespace {

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
