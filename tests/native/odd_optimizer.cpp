#include "optimizer.cpp"

#include "odd.h"

int main() {
    const std::vector<int64_t> counts{0, 1, 3, 16, 17, STRETCH - 1, STRETCH, STRETCH + 1, 2 * STRETCH + 5};
    for (int copies = 0; copies < 3; ++copies) {  // none, fp32, bf16
        std::vector<std::unique_ptr<Memory>> held;
        auto memory = [&](int64_t count, bool low) -> float* {
            held.push_back(std::make_unique<Memory>(count, low));
            return *held.back();
        };
        std::vector<Update> updates;
        for (int64_t count : counts) {
            Update update{count, memory(count, false), memory(count, false), memory(count, false), memory(count, false)};
            for (int64_t i = 0; i < count; ++i) update.square[i] = 0.25f;
            if (copies) update.copy = memory(count, copies == 2), update.copy_is_low = copies == 2;
            update.decay = 0.99, update.step_size = 1e-3, update.root_scale = 1.0;
            updates.push_back(update);
        }
        for (int64_t tensors : {(int64_t)0, (int64_t)1, (int64_t)updates.size()}) {
            auto norm = std::make_unique<double>();
            AdamWCall call = call_of<AdamWCall>(false);
            call.tensors = tensors, call.updates = updates.data(), call.rule = {0.9, 0.999, 1e-8, 1.0}, call.norm = norm.get();
            require(textune_adamw(&call));
        }
    }
    return finish();
}
