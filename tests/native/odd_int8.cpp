#include "int8.cpp"

#include "odd.h"

namespace {

struct Linear {  // weights in panels, and what belongs to each output, filled up to whole panels
    int64_t inputs, outputs, filled;
    Memory panels, bias, scale, sums;
    Linear(int64_t inputs, int64_t outputs)
        : inputs(inputs), outputs(outputs), filled((outputs + PANEL - 1) / PANEL * PANEL), panels(filled * ((inputs + 3) / 4), false),
          bias(filled, false), scale(filled, false), sums(filled, false) {
        std::memset(panels.bytes.get(), 3, filled * ((inputs + 3) / 4) * 4);
    }
    PanelWeights weights() const { return {panels, bias, scale, sums, inputs, outputs, PANEL, LARGEST}; }
};

void project(int64_t rows, int64_t inputs, std::vector<int64_t> outputs) {
    std::vector<std::unique_ptr<Linear>> linears;
    int64_t width = 0;
    ProjectCall call = call_of<ProjectCall>(false);
    call.rows = rows, call.count = (int64_t)outputs.size();
    for (size_t i = 0; i < outputs.size(); ++i) {
        linears.push_back(std::make_unique<Linear>(inputs, outputs[i]));
        call.weights[i] = linears[i]->weights(), width += outputs[i];
    }
    Memory x(rows * inputs, false), y(rows * width, false);
    call.x = x, call.y = y;
    require(textune_int8_project(&call));
}

void finish_layer(int64_t activation, int64_t rows, int64_t from, int64_t width, int64_t between) {
    Linear mix(from, width), inner(width, between), output(between, width);
    Memory attended(rows * from, false), residual(rows * width, false), y(rows * width, false);
    Memory gamma(width, false), beta(width, false);
    FinishLayerCall call = call_of<FinishLayerCall>(false);
    call.activation = activation, call.rows = rows, call.first_eps = call.second_eps = 1e-5;
    call.attended = attended, call.residual = residual, call.y = y;
    call.first_gamma = call.second_gamma = gamma, call.first_beta = call.second_beta = beta;
    call.mix = mix.weights(), call.inner = inner.weights(), call.output = output.weights();
    require(textune_int8_finish_layer(&call));
}

}  // namespace

int main() {
    PanelCall panel = call_of<PanelCall>(false);
    require(textune_int8_panel(&panel));
    for (int64_t rows : {0, 1, 3, 4, 6, 7, 97, 200})
        for (int64_t inputs : {1, 3, 4, 16, 17, 33, 100}) {
            for (int64_t outputs : {1, 7, 16, 17, 63, 64, 65}) project(rows, inputs, {outputs});
            project(rows, inputs, {5, 33, 1});
        }
    for (int64_t activation : {GELU, GELU_TANH, RELU})
        for (int64_t rows : {0, 1, 5, 97})
            for (int64_t width : {1, 15, 16, 40, 65})
                for (int64_t between : {1, 17, 130}) finish_layer(activation, rows, width < 40 ? width + 8 : width - 7, width, between);
    return finish();
}
