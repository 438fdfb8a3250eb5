// As odd.h says. A difference between attention in pairs of bf16 numbers and in fp32, of which a processor takes the faster one,
// ends the program too.

#include <cmath>

#include "kernels.cpp"

#include "odd.h"

namespace {

// Output, and the gradients for a gradient that equals it.
template <typename T>
std::vector<float> in_units(const AttentionCall& call, int64_t answers) {  // in parts of the largest
    const AttentionCall* k = &call;
    Attention rows = attention_of(k);
    auto q = view<const bf16>(k->query), key = view<const bf16>(k->key), value = view<const bf16>(k->value);
    require(forward_in_units<T>(rows, q, key, value, view<bf16>(k->output)));
    require(backward_in_units<T>(rows, q, key, value, view<const bf16>(k->output), view<bf16>(k->grad_query),
                                 view<bf16>(k->grad_key), view<bf16>(k->grad_value)));
    std::vector<float> all;
    auto add = [&](const Tensor& tensor, int64_t count, int64_t heads) {
        std::vector<float> numbers;
        for (int64_t i = 0; i < count * heads * k->d; ++i) numbers.push_back(up(load_part((const bf16*)tensor.data + i, 1))[0]);
        float most = 1e-6f;
        for (float x : numbers) most = std::fmax(most, std::fabs(x));
        for (float x : numbers) all.push_back(x / most);
    };
    add(k->output, answers, k->heads), add(k->grad_query, k->tokens, k->heads);
    add(k->grad_key, k->tokens, k->key_heads), add(k->grad_value, k->tokens, k->key_heads);
    return all;
}

void compare_units(const AttentionCall& call, int64_t answers) {
    std::vector<float> pairs = in_units<Unit<bf16>>(call, answers), plain = in_units<float>(call, answers);
    for (size_t i = 0; i < pairs.size(); ++i)
        if (!(std::fabs(pairs[i] - plain[i]) <= 0.03f)) {
            std::printf("number %zu is %g in pairs and %g in fp32, width %d\n", i, pairs[i], plain[i], (int)call.d);
            std::exit(1);
        }
}

void attend(bool low, int64_t d, int64_t key_heads, int64_t window, bool causal, bool first_only, double dropout) {
    std::vector<int64_t> starts{0, 2, 7, 20, 52, 90}, lengths{1, 5, 13, 32, 33, 70};
    int64_t tokens = 163, heads = 2, answers = first_only ? (int64_t)starts.size() : tokens;
    Memory query(tokens * heads * d, low), key(tokens * key_heads * d, low), value(tokens * key_heads * d, low);
    Memory output(answers * heads * d, low), grad_query(tokens * heads * d, low);
    Memory grad_key(tokens * key_heads * d, low), grad_value(tokens * key_heads * d, low);
    auto of = [&](const Memory& memory, int64_t count) { return Tensor{memory, count * d, d}; };
    AttentionCall call = call_of<AttentionCall>(low);
    call.rows = (int64_t)starts.size(), call.tokens = tokens, call.heads = heads, call.key_heads = key_heads, call.d = d;
    call.window = window, call.causal = causal, call.first_only = first_only, call.scale = 0.3, call.dropout = dropout, call.seed = 7;
    call.starts = starts.data(), call.lengths = lengths.data();
    call.query = of(query, heads), call.key = of(key, key_heads), call.value = of(value, key_heads), call.output = of(output, heads);
    call.grad_query = of(grad_query, heads), call.grad_key = of(grad_key, key_heads), call.grad_value = of(grad_value, key_heads);
    require(textune_attention_forward(&call));
    require(textune_attention_backward(&call));
    if (low) compare_units(call, answers);
}

void between_products(bool low, int64_t rows, int64_t width) {
    Memory x(rows * width, low), y(rows * width, low), grad(rows * width, low), bias(width, false), grad_bias(width, false);
    for (int64_t kind = GELU; kind <= RELU; ++kind) {
        ActivationCall call = call_of<ActivationCall>(low);
        call.kind = kind, call.rows = rows, call.width = width, call.x = x, call.bias = bias, call.y = y;
        call.grad = grad, call.grad_bias = grad_bias;
        require(textune_activation_forward(&call));
        require(textune_activation_backward(&call));
    }
    DropoutCall drop = call_of<DropoutCall>(low);
    drop.rows = rows, drop.width = width, drop.probability = 0.3, drop.seed = 5, drop.x = x, drop.y = y;
    require(textune_dropout(&drop));
    ColumnSumsCall sums = call_of<ColumnSumsCall>(low);
    sums.rows = rows, sums.width = width, sums.x = x, sums.sums = grad_bias;
    require(textune_column_sums(&sums));
    Memory residual(rows * width, false), whole(rows * width, false), grad_residual(rows * width, false), gamma(width, false);
    Memory beta(width, false), means(rows, false), scales(rows, false), grad_gamma(width, false), grad_beta(width, false);
    NormCall norm = call_of<NormCall>(low);
    norm.rows = rows, norm.width = width, norm.eps = 1e-5, norm.dropout = 0.1, norm.seed = 3;
    norm.x = x, norm.bias = bias, norm.residual = residual, norm.gamma = gamma, norm.beta = beta;
    norm.y = whole, norm.means = means, norm.scales = scales, norm.y_low = low ? (void*)y : nullptr;
    norm.grad = whole, norm.grad_low = low ? (void*)grad : nullptr, norm.grad_residual = grad_residual, norm.grad_x = y;
    norm.grad_gamma = grad_gamma, norm.grad_beta = grad_beta, norm.grad_bias = grad_bias;
    require(textune_norm_forward(&norm));
    require(textune_norm_backward(&norm));
}

}  // namespace

int main() {
    for (bool low : {false, true}) {
        for (int64_t d : {1, 5, 20, 24, 32, 40, 64, 80, 96, 128, 256})
            for (int64_t window : {0, 1, 20})
                for (int which = 0; which < 8; ++which)
                    attend(low, d, which & 1 ? 1 : 2, window, which & 2, which & 4, which == 3 || which == 4 ? 0.2 : 0.0);
        for (int64_t width : {1, 3, 7, 8, 15, 16, 17, 33, 100})
            for (int64_t rows : {1, 5}) between_products(low, rows, width);
    }
    return finish();
}
