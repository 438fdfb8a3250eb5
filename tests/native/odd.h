// What the programs of this folder share: memory of exactly its size, and calls that must succeed.
//
// Each program runs the kernels of one source over odd shapes; test_sanitized.py builds it with sanitizers. Memory that is read or
// written outside its bounds, or undefined, ends the program.

#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "call.h"
#include "vectors.h"

namespace {

int calls = 0;

struct Memory {  // so many numbers, fp32 or bf16, with nothing behind them; small values that differ
    std::unique_ptr<char[]> bytes;
    Memory(int64_t count, bool low) : bytes(new char[count * (low ? 2 : 4)]) {
        for (int64_t i = 0; i < count; ++i) {
            float x = (float)((i * 37) % 101) / 101.0f - 0.5f;
            if (low)
                store_part((bf16*)bytes.get() + i, down(splat(x)), 1);
            else
                std::memcpy(bytes.get() + 4 * i, &x, 4);
        }
    }
    operator void*() const { return bytes.get(); }
    operator float*() const { return (float*)bytes.get(); }
};

inline void require(int answer) {
    if (answer != DONE) {
        std::printf("a kernel answered %d\n", answer);
        std::exit(1);
    }
    ++calls;
}

template <typename C>
C call_of(bool low) {
    C call{};
    call.size = sizeof(C);
    call.low = low;
    call.threads = 2;
    return call;
}

inline int finish() {
    std::printf("%d calls\n", calls);
    return 0;
}

}  // namespace
