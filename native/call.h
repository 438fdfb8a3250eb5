// How Python calls a kernel: one struct of 8-byte fields, whose first is its own size.
//
// The same fields stand in textune/model/native/: calls.py, disentangled.py, int8.py. A library and a caller that do not belong
// together differ in the size, and get an answer instead of numbers from the wrong places. Every function returns one of the
// answers below.

#pragma once

#include <cstdint>

namespace {

enum Answer { DONE = 0, NO_MEMORY = 1, OTHER_LAYOUT = 2, OUT_OF_RANGE = 3 };

struct Call {
    int64_t size;     // bytes of the whole struct
    int64_t low;      // activations are bf16, not fp32
    int64_t threads;
};

struct Tensor {  // [tokens, heads, d], d contiguous; strides in elements
    void* data;
    int64_t token, head;
};

// What all calls have in common; `answer` of the particular one follows.
template <typename C>
inline int mistake(const C* call) {
    if (call == nullptr || call->size != (int64_t)sizeof(C)) return OTHER_LAYOUT;
    return call->threads < 1 || call->threads > 4096 ? OUT_OF_RANGE : DONE;
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default"))) int

// Runs `work` with E the type of the activations.
#define BY_TYPE(low, work) \
    if (low) {             \
        using E = bf16;    \
        work;              \
    } else {               \
        using E = float;   \
        work;              \
    }
