// A register of numbers at a time: loads, functions, random bits, scratch memory. Included by the other kernel files alone.
//
// The vectors are GCC's own, as wide as a register of the processor compiled for, so the same lines serve every processor. Only
// parts of vectors, sums across lanes and bf16 use instructions of x86 by name. All arithmetic is fp32, whatever the storage.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <omp.h>
#include <type_traits>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define TEXTUNE_AVX512
#elif defined(__AVX2__) && defined(__FMA__)
#define TEXTUNE_AVX2
#endif

namespace {

#if defined(TEXTUNE_AVX512)
constexpr int W = 16;
#elif defined(TEXTUNE_AVX2)
constexpr int W = 8;
#else
constexpr int W = 4;  // SSE and NEON
#endif
typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint16_t S __attribute__((vector_size(2 * W)));

struct bf16 {
    uint16_t bits;
};

inline F splat(float x) { return F{} + x; }
inline U splat_u(uint32_t x) { return U{} + x; }

inline U lane_u() {
#if defined(TEXTUNE_AVX512)
    return U{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif defined(TEXTUNE_AVX2)
    return U{0, 1, 2, 3, 4, 5, 6, 7};
#else
    return U{0, 1, 2, 3};
#endif
}
inline F lane() { return __builtin_convertvector((I)lane_u(), F); }
inline I first_lanes(int n) { return (I)lane_u() < (I)splat_u((uint32_t)n); }  // all bits set in lanes 0 to n - 1

// --- bf16: rounded to nearest even, as PyTorch does; what is not a number stays so ---------------------------------------

inline U rounded_to_bf16(F x) {  // the numbers' upper halves, each in the lower half of its lane
    U u = (U)x, rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    I nan = x != x;
    return nan ? splat_u(0x7fc0u) : rounded;
}

#if defined(TEXTUNE_AVX512)
inline F up(S h) { return (F)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16); }
#ifdef __AVX512BF16__
inline S down(F x) { return (S)_mm512_cvtneps_pbh((__m512)x); }
#else
inline S down(F x) { return (S)_mm512_cvtepi32_epi16((__m512i)rounded_to_bf16(x)); }
#endif
#elif defined(TEXTUNE_AVX2)
inline F up(S h) { return (F)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)h), 16); }
inline S down(F x) {
    __m256i u = (__m256i)rounded_to_bf16(x);
    return (S)_mm_packus_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
}
#else
inline F up(S h) { return (F)(__builtin_convertvector(h, U) << 16); }
inline S down(F x) { return __builtin_convertvector(rounded_to_bf16(x), S); }
#endif

// --- loads and stores; n < W touches n elements only, and the other lanes are zero ----------------------------------------

template <typename V, typename T>
inline V as(const T* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

#if defined(TEXTUNE_AVX512)
inline __mmask16 low_bits(int n) { return (__mmask16)((1u << n) - 1); }
inline F load_part(const float* p, int n) { return (F)_mm512_maskz_loadu_ps(low_bits(n), p); }
inline S load_part(const bf16* p, int n) { return (S)_mm256_maskz_loadu_epi16(low_bits(n), p); }
inline void store_part(float* p, F v, int n) { _mm512_mask_storeu_ps(p, low_bits(n), (__m512)v); }
inline void store_part(bf16* p, S h, int n) { _mm256_mask_storeu_epi16(p, low_bits(n), (__m256i)h); }
#else
// Up to three bf16 numbers in the lower bits of a word.
inline uint64_t few(const bf16* p, int n) {
    uint64_t bits = n & 1 ? p[n - 1].bits : 0;
    return n & 2 ? bits << 32 | as<uint32_t>(p) : bits;
}
inline void store_few(bf16* p, uint64_t bits, int n) {
    if (n & 2) {
        std::memcpy(p, &bits, sizeof(uint32_t));
        p += 2, bits >>= 32;
    }
    if (n & 1) p->bits = (uint16_t)bits;
}
#if defined(TEXTUNE_AVX2)
inline F load_part(const float* p, int n) { return (F)_mm256_maskload_ps(p, (__m256i)first_lanes(n)); }
inline S load_part(const bf16* p, int n) {
    uint64_t low = n & 4 ? as<uint64_t>(p) : few(p, n);
    return (S)_mm_set_epi64x((int64_t)(n & 4 ? few(p + 4, n & 3) : 0), (int64_t)low);
}
inline void store_part(float* p, F v, int n) {  // a masked store takes a dozen cycles on some processors
    __m128 part = _mm256_castps256_ps128((__m256)v);
    if (n & 4) {
        _mm_storeu_ps(p, part);
        p += 4, part = _mm256_extractf128_ps((__m256)v, 1);
    }
    if (n & 2) {
        _mm_storel_pi((__m64*)p, part);
        p += 2, part = _mm_movehl_ps(part, part);
    }
    if (n & 1) _mm_store_ss(p, part);
}
inline void store_part(bf16* p, S h, int n) {
    uint64_t bits = (uint64_t)_mm_cvtsi128_si64((__m128i)h);
    if (n & 4) {
        std::memcpy(p, &bits, sizeof bits);
        p += 4, bits = (uint64_t)_mm_extract_epi64((__m128i)h, 1);
    }
    store_few(p, bits, n & 3);
}
#else
inline F load_part(const float* p, int n) {
    return F{n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, 0.0f};
}
inline S load_part(const bf16* p, int n) { return (S)few(p, n); }
inline void store_part(float* p, F v, int n) {
    if (n > 0) p[0] = v[0];
    if (n > 1) p[1] = v[1];
    if (n > 2) p[2] = v[2];
}
inline void store_part(bf16* p, S h, int n) { store_few(p, (uint64_t)h, n); }
#endif
#endif

inline F load(const float* p) { return as<F>(p); }
inline F load(const bf16* p) { return up(as<S>(p)); }
inline void store(float* p, F v) { std::memcpy(p, &v, sizeof v); }
inline void store(bf16* p, F v) {
    S h = down(v);
    std::memcpy(p, &h, sizeof h);
}
inline F load(const float* p, int n) { return n >= W ? load(p) : load_part(p, n); }
inline F load(const bf16* p, int n) { return n >= W ? load(p) : up(load_part(p, n)); }
inline void store(float* p, F v, int n) { n >= W ? store(p, v) : store_part(p, v, n); }
inline void store(bf16* p, F v, int n) { n >= W ? store(p, v) : store_part(p, down(v), n); }

// --- functions --------------------------------------------------------------------------------------------------------

typedef float Quad __attribute__((vector_size(16)));
inline float sum_of_four(Quad v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline Quad upper(Quad a, Quad b) { return a > b ? a : b; }
inline float largest_of_four(Quad v) {
    float even = v[0] > v[2] ? v[0] : v[2], odd = v[1] > v[3] ? v[1] : v[3];
    return even > odd ? even : odd;
}

#if defined(TEXTUNE_AVX512)
template <int N>
inline Quad quad(F v) {
    return (Quad)_mm512_extractf32x4_ps((__m512)v, N);
}
inline float sum(F v) { return sum_of_four((quad<0>(v) + quad<2>(v)) + (quad<1>(v) + quad<3>(v))); }
inline float largest(F v) { return largest_of_four(upper(upper(quad<0>(v), quad<2>(v)), upper(quad<1>(v), quad<3>(v)))); }
#elif defined(TEXTUNE_AVX2)
template <int N>
inline Quad quad(F v) {
    return (Quad)_mm256_extractf128_ps((__m256)v, N);
}
inline float sum(F v) { return sum_of_four(quad<0>(v) + quad<1>(v)); }
inline float largest(F v) { return largest_of_four(upper(quad<0>(v), quad<1>(v))); }
#else
inline float sum(F v) { return sum_of_four(v); }
inline float largest(F v) { return largest_of_four(v); }
#endif

inline F larger(F a, F b) {  // b where either is not a number
#if defined(TEXTUNE_AVX512)
    return (F)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(TEXTUNE_AVX2)
    return (F)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
}

inline F exponential(F x) {  // Cephes' expf: 2^n times a polynomial of the rest; relative error below 2e-7
    I tiny = x < -87.3f;
    x = x < -87.3f ? splat(-87.3f) : x;
    x = x > 88.0f ? splat(88.0f) : x;
    F shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the sum's last bits are the nearest whole number
    F n = shifted - 12582912.0f;
    F r = x - n * 0.693359375f - n * -2.12194440e-4f;
    F p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (F)(~tiny & ((I)p + ((I)shifted << 23)));
}

inline F power_of_two(F x, float times) {  // 2^(x * times), below 2^127; 0 below 2^-126; relative error below 2.5e-7
    F shifted = x * times + 12582912.0f;
    F r = x * times - (shifted - 12582912.0f);
    F p = 1.327647152e-3f * r + 9.675541331e-3f;
    p = p * r + 5.550713275e-2f;
    p = p * r + 2.402211972e-1f;
    p = p * r + 6.931469671e-1f;
    p = p * r + 1.0f;
    return shifted < 12582912.0f - 126.0f ? F{} : (F)((I)p + ((I)shifted << 23));
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
    I takes(uint32_t row_key, uint32_t column) const {  // all bits set where it is zero, from `column` on
        U bits = mix(row_key ^ (lane_u() * 0x9e3779b9u + column * 0x9e3779b9u));
        return bits < splat_u(limit);
    }
    F factor(uint32_t row_key, uint32_t column) const { return takes(row_key, column) ? F{} : splat(rescale); }
};

// --- scratch memory: taken before threads start, so that running out of it is an answer and not the end of the process -----

struct Scratch {
    size_t each;
    void* taken;
    char* memory;  // from the start of a line of the cache on: a vector that lies in two takes twice as long
    Scratch(size_t size, int threads) : each((size + 63) / 64 * 64), taken(std::calloc(threads, each + 64)) {
        memory = (char*)(((uintptr_t)taken + 63) / 64 * 64);
    }
    Scratch(const Scratch&) = delete;
    ~Scratch() { std::free(taken); }
    explicit operator bool() const { return taken != nullptr; }
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
