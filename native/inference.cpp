// What prediction calls: products by themselves, and layers behind their attention, with weights in panels.

#include "inference.h"

#include "call.h"

namespace {

enum Kind { FLOATS = 0, HALVES = 1, BYTES = 2 };

struct PanelWeights {
    const void* panels;
    const float *bias, *scale, *sums;
    int64_t inputs, outputs;
};

template <typename P>
Weights<P> weights_of(const PanelWeights& k) {
    return {(const uint32_t*)k.panels, k.bias, k.scale, k.sums, k.inputs, k.outputs};
}

bool fits(const PanelWeights& k) { return k.inputs >= 1 && k.inputs <= MOST_INPUTS && k.outputs >= 1; }

}  // namespace

// Runs `work` with P the numbers of the products and E the type of activations that goes with them.
#ifdef __AVX512BF16__
#define WITH_HALVES(work)  \
    case HALVES: {         \
        using P = Halves;  \
        using E = bf16;    \
        work;              \
        break;             \
    }
#else
#define WITH_HALVES(work)
#endif
#define BY_KIND(kind, low, work)                            \
    if ((kind == HALVES) != (low != 0)) return OUT_OF_RANGE; \
    switch (kind) {                                         \
        case FLOATS: {                                      \
            using P = Floats;                               \
            using E = float;                                \
            work;                                           \
            break;                                          \
        }                                                   \
            WITH_HALVES(work)                               \
        case BYTES: {                                       \
            using P = Bytes;                                \
            using E = float;                                \
            work;                                           \
            break;                                          \
        }                                                   \
        default: return OUT_OF_RANGE;                       \
    }

struct PanelCall : Call {
    int64_t kind;
    int64_t panel, largest;  // the answer: outputs in a panel, the largest weight of bytes
};

EXPORTED textune_panel(PanelCall* k) {
    int answer = mistake(k);
    if (answer) return answer;
    k->panel = PANEL;
    BY_KIND(k->kind, k->low, (k->largest = P::LARGEST, (void)E{}))
    return DONE;
}

struct ProjectCall : Call {
    int64_t kind, rows, count;  // so many of the three weights
    const float* x;
    void* y;  // the results side by side, in bf16 where `low` says so
    PanelWeights weights[3];
};

EXPORTED textune_project(const ProjectCall* k) {
    int answer = mistake(k);
    if (answer) return answer;
    if (k->rows < 0 || k->count < 1 || k->count > 3) return OUT_OF_RANGE;
    for (int i = 0; i < k->count; ++i)
        if (!fits(k->weights[i]) || k->weights[i].inputs != k->weights[0].inputs) return OUT_OF_RANGE;
    BY_KIND(k->kind, k->low, {
        Projections<P> projections{};
        projections.count = (int)k->count;
        for (int i = 0; i < projections.count; ++i) projections.weights[i] = weights_of<P>(k->weights[i]);
        answer = project<P>(projections, k->x, (E*)k->y, k->rows, (int)k->threads);
    })
    return answer;
}

struct FinishLayerCall : Call {
    int64_t kind, activation, rows;
    double first_eps, second_eps;
    const void* attended;
    const float *residual, *first_gamma, *first_beta, *second_gamma, *second_beta;
    float* y;
    PanelWeights mix, inner, output;
};

template <typename P, typename E>
static int finish(const FinishLayerCall* k) {
    Layer<P> layer{weights_of<P>(k->mix),
                   weights_of<P>(k->inner),
                   weights_of<P>(k->output),
                   {k->first_gamma, k->first_beta, (float)k->first_eps},
                   {k->second_gamma, k->second_beta, (float)k->second_eps}};
    auto call = [&](auto function) {
        return function(layer, (const E*)k->attended, k->residual, k->y, k->rows, (int)k->threads);
    };
    switch (k->activation) {
        case GELU: return call(finish_layer<P, GELU, E>);
        case GELU_TANH: return call(finish_layer<P, GELU_TANH, E>);
        case RELU: return call(finish_layer<P, RELU, E>);
        default: return OUT_OF_RANGE;
    }
}

EXPORTED textune_finish_layer(const FinishLayerCall* k) {
    int answer = mistake(k);
    if (answer) return answer;
    if (k->rows < 0 || !fits(k->mix) || !fits(k->inner) || !fits(k->output)) return OUT_OF_RANGE;
    if (k->inner.inputs != k->mix.outputs || k->output.inputs != k->inner.outputs || k->output.outputs != k->mix.outputs)
        return OUT_OF_RANGE;
    BY_KIND(k->kind, k->low, (answer = finish<P, E>(k)))
    return answer;
}
