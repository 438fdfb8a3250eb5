// What prediction with int8 weights calls: products by themselves, and layers behind their attention.

#include "int8.h"

#include "call.h"

namespace {

struct PanelWeights {
    const void* panels;
    const float *bias, *scale, *sums;
    int64_t inputs, outputs;
    int64_t panel, largest;  // as `int8_panel` of the library that they were made for answered
};

Weights weights_of(const PanelWeights& k) {
    return {(const uint32_t*)k.panels, k.bias, k.scale, k.sums, k.inputs, k.outputs};
}

bool fits(const PanelWeights& k) {
    bool ours = k.panel == PANEL && k.largest >= 1 && k.largest <= LARGEST;  // and not those of another level
    return ours && k.inputs >= 1 && k.inputs <= MOST_INPUTS && k.outputs >= 1;
}

}  // namespace

struct PanelCall : Call {
    int64_t panel, largest;  // the answer: outputs in a panel, the largest weight
};

EXPORTED textune_int8_panel(PanelCall* k) {
    int answer = mistake(k);
    if (answer) return answer;
    k->panel = PANEL;
    k->largest = LARGEST;
    return DONE;
}

struct ProjectCall : Call {
    int64_t rows, count;  // so many of the three weights
    const float* x;
    float* y;  // the results side by side
    PanelWeights weights[3];
};

EXPORTED textune_int8_project(const ProjectCall* k) {
    int answer = mistake(k);
    if (answer) return answer;
    if (k->rows < 0 || k->count < 1 || k->count > 3) return OUT_OF_RANGE;
    Projections projections{};
    projections.count = (int)k->count;
    for (int i = 0; i < projections.count; ++i) {
        if (!fits(k->weights[i]) || k->weights[i].inputs != k->weights[0].inputs) return OUT_OF_RANGE;
        projections.weights[i] = weights_of(k->weights[i]);
    }
    return project(projections, k->x, k->y, k->rows, (int)k->threads);
}

struct FinishLayerCall : Call {
    int64_t activation, rows;
    double first_eps, second_eps;
    const float *attended, *residual, *first_gamma, *first_beta, *second_gamma, *second_beta;
    float* y;
    PanelWeights mix, inner, output;
};

EXPORTED textune_int8_finish_layer(const FinishLayerCall* k) {
    int answer = mistake(k);
    if (answer) return answer;
    if (k->rows < 0 || !fits(k->mix) || !fits(k->inner) || !fits(k->output)) return OUT_OF_RANGE;
    if (k->inner.inputs != k->mix.outputs || k->output.inputs != k->inner.outputs || k->output.outputs != k->mix.outputs)
        return OUT_OF_RANGE;
    Layer layer{weights_of(k->mix),
                weights_of(k->inner),
                weights_of(k->output),
                {k->first_gamma, k->first_beta, (float)k->first_eps},
                {k->second_gamma, k->second_beta, (float)k->second_eps}};
    auto call = [&](auto function) { return function(layer, k->attended, k->residual, k->y, k->rows, (int)k->threads); };
    switch (k->activation) {
        case GELU: return call(finish_layer<GELU>);
        case GELU_TANH: return call(finish_layer<GELU_TANH>);
        case RELU: return call(finish_layer<RELU>);
        default: return OUT_OF_RANGE;
    }
}
