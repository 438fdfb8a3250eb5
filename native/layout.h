// How attention lays a row out before products are taken of it: one head's numbers together, and in units along either side.

#pragma once

#include "tiles.h"

namespace {

template <typename E>
struct View {  // [tokens, heads, d], d contiguous
    E* data;
    int64_t token, head;
    E* at(int64_t t, int64_t h) const { return data + t * token + h * head; }
};

// One row's [L, d] of one head in units along d: [L rounded to W, padded d / packed], zero beyond.
template <typename E>
void gather(const View<const E>& view, int64_t start, int64_t length, int64_t head, int64_t d, float* out) {
    int64_t dp = rounded(d, W), whole = d / W * W;
    for (int64_t i = 0; i < length; ++i, out += dp) {
        const E* in = view.at(start + i, head);
        for (int64_t c = 0; c < whole; c += W) store(out + c, load(in + c));
        if (whole < d) store(out + whole, load(in + whole, (int)(d - whole)));
    }
    std::memset(out, 0, sizeof(float) * (rounded(length, W) - length) * dp);
}
#ifdef __AVX512BF16__
inline void gather(const View<const bf16>& view, int64_t start, int64_t length, int64_t head, int64_t d, Pair* out) {
    int64_t width = rounded(d, W) / 2, whole = d / W * W;
    for (int64_t i = 0; i < length; ++i, out += width) {
        const bf16* in = view.at(start + i, head);
        for (int64_t c = 0; c < whole; c += W) std::memcpy(out + c / 2, in + c, sizeof(S));
        if (whole < d) {
            S rest = load_part(in + whole, (int)(d - whole));
            std::memcpy(out + whole / 2, &rest, sizeof rest);
        }
    }
    std::memset(out, 0, sizeof(Pair) * (rounded(length, W) - length) * width);
}
#endif

// The same in units along L: [L / packed, padded d]. Without pairs, that is what `gather` has made.
inline const float* along(const float* rows, int64_t, int64_t, float*) { return rows; }
#ifdef __AVX512BF16__
inline const Pair* along(const Pair* rows, int64_t length, int64_t dp, Pair* out) {
    const I side_by_side = (I)lane_u() | (((I)lane_u() + 2 * W) << 16);  // number c of both rows in unit c
    for (int64_t i = 0; i < length; i += 2)
        for (int64_t c = 0; c < dp; c += W) {
            __m256i even = as<__m256i>((const bf16*)(rows + i * dp / 2) + c), odd = as<__m256i>((const bf16*)(rows + (i + 1) * dp / 2) + c);
            store_unit(out + i / 2 * dp + c, (U)_mm512_permutex2var_epi16(_mm512_castsi256_si512(even), (__m512i)side_by_side,
                                                                          _mm512_castsi256_si512(odd)));
        }
    return out;
}
#endif

// Weights in panels [QUERIES, P] of `count` queries and the keys [first, end), in units along the keys: panels [QUERIES, P / packed].
inline const float* along_keys(const float* w, int, int64_t, int64_t, float*) { return w; }
// The same in units along the queries: panels [QUERIES / packed, P].
inline const float* along_queries(const float* w, int, int64_t, int64_t, float*) { return w; }
#ifdef __AVX512BF16__
inline const Pair* along_keys(const float* w, int count, int64_t first, int64_t end, Pair* out) {
    for (int64_t j = first; j < end; j += P)
        for (int64_t at = j * QUERIES; at < j * QUERIES + count * P; at += W) store((bf16*)out + at, load(w + at));
    return out;
}
inline const Pair* along_queries(const float* w, int count, int64_t first, int64_t end, Pair* out) {
    for (int64_t j = first; j < end; j += P) {
        const float* in = w + j * QUERIES;
        Pair* to = out + j * QUERIES / 2;
        for (int r = 0; r < count; r += 2, in += 2 * P, to += P)
            for (int c = 0; c < P; c += W) store_unit(to + c, pairs(load(in + c), r + 1 < count ? load(in + P + c) : F{}));
    }
    return out;
}
#endif

}  // namespace
