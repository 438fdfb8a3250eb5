// Sixteen numbers at a time: loads, functions, random bits, scratch memory. Included by the other kernel files alone.
//
// The vectors are GCC's own, so the same lines serve every processor; all arithmetic is fp32, whatever the storage.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <omp.h>
#include <type_traits>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int W = 16;
typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint16_t S __attribute__((vector_size(2 * W)));

struct bf16 {
    uint16_t bits;
};

// --- loads and stores; n < W touches n elements only ------------------------------------------------------------------

inline F splat(float x) { return F{} + x; }
inline U splat_u(uint32_t x) { return U{} + x; }

inline F up(S h) { return (F)(__builtin_convertvector(h, U) << 16); }

inline S down(F x) {  // round to nearest even, as PyTorch does; what is not a number stays so
    U u = (U)x;
    U rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    I nan = x != x;
    return __builtin_convertvector(((U)nan & 0x7fc0u) | (~(U)nan & rounded), S);
}

inline F load(const float* p) {
    F v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline F load(const bf16* p) {
    S h;
    std::memcpy(&h, p, sizeof h);
    return up(h);
}
inline void store(float* p, F v) { std::memcpy(p, &v, sizeof v); }
inline void store(bf16* p, F v) {
    S h = down(v);
    std::memcpy(p, &h, sizeof h);
}

inline F load(const float* p, int n) {
    if (n >= W) return load(p);
    F v{};
    std::memcpy(&v, p, sizeof(float) * n);
    return v;
}
inline F load(const bf16* p, int n) {
    if (n >= W) return load(p);
    S h{};
    std::memcpy(&h, p, sizeof(bf16) * n);
    return up(h);
}
inline void store(float* p, F v, int n) {
    if (n >= W) return store(p, v);
    std::memcpy(p, &v, sizeof(float) * n);
}
inline void store(bf16* p, F v, int n) {
    if (n >= W) return store(p, v);
    S h = down(v);
    std::memcpy(p, &h, sizeof(bf16) * n);
}

// --- functions --------------------------------------------------------------------------------------------------------

inline float sum(F v) {
    float halves[W];
    std::memcpy(halves, &v, sizeof v);
    for (int width = W / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) halves[i] += halves[i + width];
    return halves[0];
}
inline float largest(F v) {
    float halves[W];
    std::memcpy(halves, &v, sizeof v);
    for (int width = W / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) halves[i] = halves[i] > halves[i + width] ? halves[i] : halves[i + width];
    return halves[0];
}

inline F lane() {
    F v;
    for (int i = 0; i < W; ++i) v[i] = (float)i;
    return v;
}
inline U lane_u() {
    U v;
    for (int i = 0; i < W; ++i) v[i] = i;
    return v;
}

inline F exponential(F x) {  // Cephes' expf: 2^n times a polynomial of the rest; relative error below 2e-7
    I tiny = x < -87.3f;
    x = x < -87.3f ? splat(-87.3f) : x;
    x = x > 88.0f ? splat(88.0f) : x;
    F half = x < 0.0f ? splat(-0.5f) : splat(0.5f);
    I n = __builtin_convertvector(x * 1.44269504f + half, I);
    F f = __builtin_convertvector(n, F);
    F r = x - f * 0.693359375f - f * -2.12194440e-4f;
    F p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (F)(~tiny & (I)(p * (F)((n + 127) << 23)));
}

inline F gauss(F x) { return exponential(x * x * -0.5f); }

inline F normal_cdf(F x, F bell) {  // Abramowitz & Stegun 7.1.26; absolute error below 1e-7; bell = exp(-x^2 / 2)
    F z = (x < 0.0f ? -x : x) * 0.70710678f;
    F t = 1.0f / (1.0f + 0.3275911f * z);
    F tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t * bell * 0.5f;
    return x < 0.0f ? tail : 1.0f - tail;
}

inline F tanh_(F x) {
    F e = exponential((x < 0.0f ? x : -x) * 2.0f);
    F t = (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -t : t;
}

// --- random bits ------------------------------------------------------------------------------------------------------

inline uint32_t mix(uint32_t x) {  // lowbias32 (C. Wellons, hash-prospector)
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}
inline U mix(U x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

struct Dropout {  // zeros with probability limit / 2^32, everything else times `rescale`
    uint32_t limit, low, high;
    float rescale;
    Dropout(double p, uint64_t seed)
        : limit((uint32_t)(p * 4294967296.0)), low((uint32_t)seed), high((uint32_t)(seed >> 32)),
          rescale((float)(1.0 / (1.0 - p))) {}
    bool on() const { return limit != 0; }
    uint32_t row(uint32_t index) const { return mix(mix(index ^ low) + high); }
    F factor(uint32_t row_key, uint32_t column) const {
        U bits = mix(row_key ^ ((lane_u() + column) * 0x9e3779b9u));
        return bits < splat_u(limit) ? F{} : splat(rescale);
    }
};

// --- scratch memory: taken before threads start, so that running out of it is an answer and not the end of the process -----

struct Scratch {
    char* memory;
    size_t each;
    Scratch(size_t each, int threads) : memory((char*)std::calloc(threads, (each + 63) / 64 * 64)), each((each + 63) / 64 * 64) {}
    Scratch(const Scratch&) = delete;
    ~Scratch() { std::free(memory); }
    explicit operator bool() const { return memory != nullptr; }
    struct Part {
        char* next;
        template <typename T>
        T* take(size_t count) {
            T* taken = (T*)next;
            next += (count * sizeof(T) + 63) / 64 * 64;
            return taken;
        }
    };
    Part part(int thread) const { return {memory + each * thread}; }
};

inline size_t room(size_t count, size_t size) { return (count * size + 63) / 64 * 64; }

}  // namespace
