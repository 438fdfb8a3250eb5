// Small matrix products whose sums stay in registers, the parts of attention: M rows by one or two vectors at a time.
//
// Products are computed in units: one fp32 number, or, where the processor multiplies pairs of bf16 numbers, such a pair.
// What is read across rows lies in panels, P keys side by side, so that a product runs through memory from front to back.

#pragma once

#include "vectors.h"

#define INLINE inline __attribute__((always_inline))  // what is called with its sums in memory is several times slower

namespace {

constexpr int P = 2 * W;                   // keys in a panel
constexpr int MOST = W == 16 ? 8 : 6;      // rows computed together: as many as the registers hold the sums of
constexpr int QUERIES = W == 16 ? 64 : 66;  // queries whose scores are kept at once

inline int64_t rounded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// --- units ------------------------------------------------------------------------------------------------------------

typedef uint32_t Pair;

inline F multiply_add(float a, F b, F sum) { return sum + a * b; }
inline F load_unit(const float* p) { return load(p); }
#ifdef __AVX512BF16__
inline U load_unit(const Pair* p) { return as<U>(p); }
inline F multiply_add(Pair a, U b, F sum) { return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)splat_u(a), (__m512bh)b); }
inline U pairs(F low, F high) {  // bf16 of `low` in the first half of each unit, of `high` in the second
    const I first = (I)lane_u(), both = first | ((first + W) << 16);
    return (U)_mm512_permutexvar_epi16((__m512i)both, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}
inline void store_unit(Pair* p, U v) { std::memcpy(p, &v, sizeof v); }
template <typename E>
using Unit = typename std::conditional<std::is_same<E, bf16>::value, Pair, float>::type;
#else
template <typename E>
using Unit = float;
#endif
// Pairs take half the instructions, which AMD's processors run as fast as others. Intel's take so long for each that fp32 is
// 1.1 (rows of 8 tokens) to 1.7 (of 512) times faster, forward and backward (Xeon, Emerald Rapids).
template <typename E>
inline bool pairs_are_faster() {
#ifdef __AVX512BF16__
    return std::is_same<E, bf16>::value && __builtin_cpu_is("amd");
#else
    return false;
#endif
}
template <typename T>
constexpr int64_t packed() {  // numbers in a unit
    return std::is_same<T, Pair>::value ? 2 : 1;
}

// --- panels -----------------------------------------------------------------------------------------------------------

inline F quads(const float* p, int64_t step) {  // four numbers each at p, p + step, ...
#if defined(TEXTUNE_AVX512)
    __m512 v = _mm512_insertf32x4(_mm512_castps128_ps512(_mm_loadu_ps(p)), _mm_loadu_ps(p + step), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 2 * step), 2);
    return (F)_mm512_insertf32x4(v, _mm_loadu_ps(p + 3 * step), 3);
#elif defined(TEXTUNE_AVX2)
    return (F)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + step), 1);
#else
    (void)step;
    return load(p);
#endif
}

// Of every four numbers: a0 b0 a1 b1 (HIGH: a2 b2 a3 b3), and a0 a1 b0 b1 (HIGH: a2 a3 b2 b3).
template <int HIGH>
inline F interleave(F a, F b) {
    const I at = (I)lane_u();
    return __builtin_shuffle(a, b, (at & ~3) + 2 * HIGH + ((at & 3) >> 1) + (at & 1) * W);
}
template <int HIGH>
inline F halves(F a, F b) {
    const I at = (I)lane_u();
    return __builtin_shuffle(a, b, (at & ~3) + 2 * HIGH + (at & 1) + ((at & 2) >> 1) * W);
}

// W rows of four numbers to four rows of W.
inline void transpose_four(const float* in, int64_t stride, float* out, int64_t out_stride) {
    F a = quads(in, 4 * stride), b = quads(in + stride, 4 * stride);
    F c = quads(in + 2 * stride, 4 * stride), d = quads(in + 3 * stride, 4 * stride);
    F ab = interleave<0>(a, b), cd = interleave<0>(c, d), ab_high = interleave<1>(a, b), cd_high = interleave<1>(c, d);
    store(out, halves<0>(ab, cd));
    store(out + out_stride, halves<1>(ab, cd));
    store(out + 2 * out_stride, halves<0>(ab_high, cd_high));
    store(out + 3 * out_stride, halves<1>(ab_high, cd_high));
}

// [length rounded to W, stride] of units to panels [wide, P], one after the other; wide is a multiple of four.
template <typename T>
void to_panels(const T* in, int64_t length, int64_t stride, int64_t wide, T* out) {
    for (int64_t j = 0; j < length; j += W) {
        float* to = (float*)(out + j / P * P * wide + j % P);
        for (int64_t c = 0; c < wide; c += 4) transpose_four((const float*)(in + j * stride + c), stride, to + c * P, P);
    }
}

// --- products ---------------------------------------------------------------------------------------------------------

// `call` with the constant M that equals m.
template <int M, typename Call>
inline void with_constant(int m, Call&& call) {
    if constexpr (M > 1) {
        if (m < M) return with_constant<M - 1>(m, call);
    }
    call(std::integral_constant<int, M>{});
}

// `call(first, M)` for parts of [0, count), as equal as can be, of a constant number M of at most LIMIT each.
template <int LIMIT, typename Call>
inline void in_parts(int count, Call&& call) {
    for (int first = 0, parts = (count + LIMIT - 1) / LIMIT; parts > 0; --parts) {
        int size = (count - first + parts - 1) / parts;
        with_constant<LIMIT>(size, [&](auto m) { call(first, m); });
        first += size;
    }
}

// `call(c, V)` for the columns of [0, width) in V = 2 vectors, and one where a single one is left.
template <typename Call>
inline void by_columns(int64_t width, Call&& call) {
    int64_t c = 0;
    for (; c + W < width; c += P) call(c, std::integral_constant<int, 2>{});
    if (c < width) call(c, std::integral_constant<int, 1>{});
}

template <int M, int V>
struct Sums {
    F of[M][V];

    // of[r, :] += sum_k weights[r * by_row + k * by_item] * vectors[k * stride + :]
    template <typename T>
    INLINE void add(const T* weights, int64_t by_row, int64_t by_item, const T* vectors, int64_t stride, int64_t items) {
#pragma GCC unroll 2
        for (int64_t k = 0; k < items; ++k, weights += by_item, vectors += stride) {
            decltype(load_unit(vectors)) b[V];
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) b[v] = load_unit(vectors + v * W);
#pragma GCC unroll 8
            for (int r = 0; r < M; ++r)
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) of[r][v] = multiply_add(weights[r * by_row], b[v], of[r][v]);
        }
    }
    // Calls `call(r, v, sum)` for all of them.
    template <typename Call>
    INLINE void each(Call&& call) {
#pragma GCC unroll 8
        for (int r = 0; r < M; ++r)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) call(r, v, of[r][v]);
    }
};

// Scores of `count` rows [count, stride] with the keys [first, end) in panels [wide, P] (first: a multiple of P).
// Out: panels [QUERIES, P]; a vector of keys that are all beyond `end` is not written.
template <typename T>
void score(const T* rows, int64_t stride, int count, const T* panels, int64_t wide, int64_t first, int64_t end, float* out) {
    for (int64_t j = first; j < end; j += P) {
        const T* panel = panels + j * wide;
        auto tile = [&](int r, auto m, auto v) {
            constexpr int M = decltype(m)::value, V = decltype(v)::value;
            Sums<M, V> sums{};
            sums.add(rows + r * stride, stride, 1, panel, P, wide);
            sums.each([&](int i, int n, F s) { store(out + j * QUERIES + (r + i) * P + n * W, s); });
        };
        if (j + W < end)
            in_parts<MOST>(count, [&](int r, auto m) { tile(r, m, std::integral_constant<int, 2>{}); });
        else
            in_parts<8>(count, [&](int r, auto m) { tile(r, m, std::integral_constant<int, 1>{}); });
    }
}

}  // namespace
