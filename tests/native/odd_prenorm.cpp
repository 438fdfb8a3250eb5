#include "prenorm.cpp"

#include "odd.h"

namespace {

void add_and_normalise(bool low, int64_t rows, int64_t width, bool norms, bool adds, bool centred) {
    Memory x(rows * width, low), y(rows * width, low), grad_y(rows * width, low), grad_x(rows * width, low);
    Memory residual(rows * width, false), total(rows * width, false), grad(rows * width, false), grad_total(rows * width, false);
    Memory bias(width, false), gamma(width, false), beta(width, false), means(rows, false), scales(rows, false);
    Memory grad_gamma(width, false), grad_beta(width, false), grad_bias(width, false);
    ResidualNormCall call = call_of<ResidualNormCall>(low);
    call.rows = rows, call.width = width, call.centred = centred, call.eps = 1e-5, call.dropout = 0.1, call.seed = 3;
    call.residual = residual, call.total = total, call.grad = grad;
    if (adds) call.x = x, call.bias = bias, call.grad_x = grad_x, call.grad_bias = grad_bias;
    if (norms) {
        call.gamma = gamma, call.means = means, call.scales = scales, call.y = y;
        call.grad_y = grad_y, call.grad_total = grad_total, call.grad_gamma = grad_gamma;
        if (centred) call.beta = beta, call.grad_beta = grad_beta;
    }
    require(textune_residual_norm_forward(&call));
    require(textune_residual_norm_backward(&call));
}

void gate(bool low, int64_t rows, int64_t width, bool has_bias) {
    Memory x(rows * 2 * width, low), y(rows * width, low), grad_x(rows * 2 * width, low);
    Memory bias(2 * width, false), grad_bias(2 * width, false);
    for (int64_t kind = GELU; kind <= SILU; ++kind) {
        GatedCall call = call_of<GatedCall>(low);
        call.kind = kind, call.rows = rows, call.width = width, call.dropout = kind == RELU ? 0.3 : 0.0, call.seed = 5;
        call.x = x, call.y = y, call.grad_y = y, call.grad_x = grad_x;
        if (has_bias) call.bias = bias, call.grad_bias = grad_bias;
        require(textune_gated_forward(&call));
        require(textune_gated_backward(&call));
    }
}

void turn(bool low, int64_t tokens, int64_t d, bool norms) {
    int64_t heads = 3;
    Memory source(tokens * heads * d, low), result(tokens * heads * d, low), cosines(tokens * d, false), sines(tokens * d, false);
    Memory gamma(d, false), grad_gamma(d, false);
    RotaryCall call = call_of<RotaryCall>(low);
    call.tokens = tokens, call.heads = heads, call.d = d, call.eps = 1e-6, call.cosines = cosines, call.sines = sines;
    call.source = {source, heads * d, d}, call.result = {result, heads * d, d};
    if (norms) call.gamma = gamma, call.grad_gamma = grad_gamma;
    require(textune_rotary_forward(&call));
    require(textune_rotary_backward(&call));
}

}  // namespace

int main() {
    for (bool low : {false, true})
        for (int64_t rows : {0, 1, 5}) {
            for (int64_t width : {1, 3, 7, 8, 15, 16, 17, 33, 64, 65, 100}) {
                for (int which = 0; which < 8; ++which) add_and_normalise(low, rows, width, which & 1, which & 2, which & 4);
                for (bool has_bias : {false, true}) gate(low, rows, width, has_bias);
            }
            for (int64_t d : {2, 6, 16, 20, 24, 64, 96, 130})
                for (bool norms : {false, true}) turn(low, rows, d, norms);
        }
    return finish();
}
