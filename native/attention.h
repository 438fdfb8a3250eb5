// Attention within each row of a packed batch, forward and backward; exact lengths, no padding, no stored probabilities.

#pragma once

#include "vectors.h"

namespace {

// --- attention within each row ------------------------------------------------------------------------------------------

constexpr int R = 4;        // queries computed together
constexpr int BLOCK = 32;   // queries whose probabilities the backward pass keeps at once

inline int64_t rounded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

template <typename E>
struct View {  // [tokens, heads, d], d contiguous
    E* data;
    int64_t token, head;
    E* at(int64_t t, int64_t h) const { return data + t * token + h * head; }
};

struct Attention {
    const int64_t *starts, *lengths;
    int64_t rows, tokens, heads, key_heads, d, window;  // window: 0 sees everything
    int causal, first_only;  // first_only: a row's first token alone asks, and its answers lie row by row
    float scale;
    Dropout dropout;
    int threads;
    int64_t queries(int64_t row) const { return first_only ? 1 : lengths[row]; }
    int64_t answer(int64_t row, int64_t i) const { return first_only ? row : starts[row] + i; }
    int64_t repeats() const { return heads / key_heads; }
    int64_t padded_d() const { return rounded(d, W); }
    uint32_t key(int64_t token, int64_t head) const { return dropout.row((uint32_t)(token * heads + head)); }
    int64_t first_seen(int64_t i) const { return window && i >= window ? i - window + 1 : 0; }
    int64_t end_seen(int64_t i, int64_t length) const {
        int64_t end = causal ? i + 1 : window ? i + window : length;
        return end < length ? end : length;
    }
};

// Products are computed in units: one fp32 number, or, where the processor multiplies pairs of bf16 numbers, such a pair.
typedef uint32_t Pair;

inline F multiply_add(float a, F b, F sum) { return sum + a * b; }
inline F load_unit(const float* p) { return load(p); }
#ifdef __AVX512BF16__
inline U load_unit(const Pair* p) {
    U v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline F multiply_add(Pair a, U b, F sum) { return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)splat_u(a), (__m512bh)b); }
template <typename E>
using Unit = typename std::conditional<std::is_same<E, bf16>::value, Pair, float>::type;
#else
template <typename E>
using Unit = float;
#endif
template <typename T>
constexpr int64_t packed() {  // numbers in a unit
    return std::is_same<T, Pair>::value ? 2 : 1;
}

inline U pairs(F low, F high) {  // bf16 of `low` in the first half of each unit, of `high` in the second
    return __builtin_convertvector(down(low), U) | (__builtin_convertvector(down(high), U) << 16);
}
inline void store_unit(Pair* p, U v) { std::memcpy(p, &v, sizeof v); }

// One row's [L, d] of one head in units along d: [L rounded to R, padded d / packed].
template <typename E>
void gather(const View<const E>& view, int64_t start, int64_t length, int64_t head, int64_t d, float* out) {
    int64_t dp = rounded(d, W);
    for (int64_t i = 0; i < length; ++i)
        for (int64_t c = 0; c < dp; c += W)
            store(out + i * dp + c, c < d ? load(view.at(start + i, head) + c, (int)(d - c)) : F{});
    std::memset(out + length * dp, 0, sizeof(float) * (rounded(length, R) - length) * dp);
}
inline void gather(const View<const bf16>& view, int64_t start, int64_t length, int64_t head, int64_t d, Pair* out) {
    int64_t width = rounded(d, W) / 2;
    std::memset(out, 0, sizeof(Pair) * rounded(length, R) * width);
    for (int64_t i = 0; i < length; ++i) std::memcpy(out + i * width, view.at(start + i, head), sizeof(bf16) * d);
}

// The same in units along L: [L / packed, padded d]. Without pairs, that is what `gather` has made.
template <typename E>
const float* gather_along(const View<const E>&, int64_t, int64_t, int64_t, int64_t, const float* made, float*) {
    return made;
}
inline const Pair* gather_along(const View<const bf16>& view, int64_t start, int64_t length, int64_t head, int64_t d, const Pair*,
                                Pair* out) {
    int64_t dp = rounded(d, W), even = rounded(length, BLOCK);
    for (int64_t i = 0; i < even; i += 2)
        for (int64_t c = 0; c < dp; c += W) {
            F low = i < length && c < d ? load(view.at(start + i, head) + c, (int)(d - c)) : F{};
            F high = i + 1 < length && c < d ? load(view.at(start + i + 1, head) + c, (int)(d - c)) : F{};
            store_unit(out + i / 2 * dp + c, pairs(low, high));
        }
    return out;
}

// [L, width] of units to [width, L rounded to W].
template <typename T>
void transpose(const T* in, int64_t length, int64_t width, T* out) {
    int64_t lp = rounded(length, W);
    for (int64_t c = 0; c < width; ++c) {
        T* to = out + c * lp;
        for (int64_t i = 0; i < length; ++i) to[i] = in[i * width + c];
        for (int64_t i = length; i < lp; ++i) to[i] = T{};
    }
}

// out[r, j] = sum_c rows[r, c] * columns[c, j] for R rows and j from `first` (a multiple of W) to `end`.
template <typename T>
void products(const T* rows, const T* columns, int64_t width, int64_t lp, int64_t first, int64_t end, float* out) {
    int64_t j = first;
    for (; j + W < end; j += 2 * W) {
        F a[R]{}, b[R]{};
        for (int64_t c = 0; c < width; ++c) {
            auto left = load_unit(columns + c * lp + j), right = load_unit(columns + c * lp + j + W);
            for (int r = 0; r < R; ++r) {
                a[r] = multiply_add(rows[r * width + c], left, a[r]);
                b[r] = multiply_add(rows[r * width + c], right, b[r]);
            }
        }
        for (int r = 0; r < R; ++r) {
            store(out + r * lp + j, a[r]);
            store(out + r * lp + j + W, b[r]);
        }
    }
    if (j < end) {
        F a[R]{};
        for (int64_t c = 0; c < width; ++c) {
            auto left = load_unit(columns + c * lp + j);
            for (int r = 0; r < R; ++r) a[r] = multiply_add(rows[r * width + c], left, a[r]);
        }
        for (int r = 0; r < R; ++r) store(out + r * lp + j, a[r]);
    }
}

// out[r, :] += sum_k weights[r, k] * vectors[k, :] for R rows, where weights[r, k] = w[r * by_row + k * by_item].
template <typename T>
void combine(const T* w, int64_t by_row, int64_t by_item, const T* vectors, int64_t first, int64_t end, int64_t dp, float* out) {
    int64_t c = 0;
    for (; c + W < dp; c += 2 * W) {
        F a[R], b[R];
        for (int r = 0; r < R; ++r) a[r] = load(out + r * dp + c), b[r] = load(out + r * dp + c + W);
        for (int64_t k = first; k < end; ++k) {
            auto left = load_unit(vectors + k * dp + c), right = load_unit(vectors + k * dp + c + W);
            for (int r = 0; r < R; ++r) {
                a[r] = multiply_add(w[r * by_row + k * by_item], left, a[r]);
                b[r] = multiply_add(w[r * by_row + k * by_item], right, b[r]);
            }
        }
        for (int r = 0; r < R; ++r) store(out + r * dp + c, a[r]), store(out + r * dp + c + W, b[r]);
    }
    if (c < dp) {
        F a[R];
        for (int r = 0; r < R; ++r) a[r] = load(out + r * dp + c);
        for (int64_t k = first; k < end; ++k) {
            auto left = load_unit(vectors + k * dp + c);
            for (int r = 0; r < R; ++r) a[r] = multiply_add(w[r * by_row + k * by_item], left, a[r]);
        }
        for (int r = 0; r < R; ++r) store(out + r * dp + c, a[r]);
    }
}

// Weights [n, lp] in units along lp: [n, lp / packed].
inline const float* along_keys(const float* w, int64_t, int64_t, float*) { return w; }
inline const Pair* along_keys(const float* w, int64_t n, int64_t lp, Pair* out) {
    for (int64_t r = 0; r < n; ++r)
        for (int64_t j = 0; j < lp; j += W) store((bf16*)(out + r * lp / 2) + j, load(w + r * lp + j));
    return out;
}

// Weights [n, lp] (n even) in units along n: [n / packed, lp].
inline const float* along_queries(const float* w, int64_t, int64_t, float*) { return w; }
inline const Pair* along_queries(const float* w, int64_t n, int64_t lp, Pair* out) {
    for (int64_t r = 0; r < n; r += 2)
        for (int64_t j = 0; j < lp; j += W) store_unit(out + r / 2 * lp + j, pairs(load(w + r * lp + j), load(w + (r + 1) * lp + j)));
    return out;
}

// Scores [L rounded to W] of one query to exp((score - highest) * scale); keys outside [first, end) get zero. Returns 1 / sum.
inline float softmax(float* scores, int64_t lp, int64_t first, int64_t end, float scale) {
    const F nothing = splat(-3.0e38f);
    int64_t whole = rounded(first, W), whole_end = end / W * W;  // vectors inside need no mask
    auto masked = [&](int64_t j, F outside) {
        F at = lane() + (float)j;
        return (at >= (float)first) & (at < (float)end) ? load(scores + j) : outside;
    };
    F top = nothing;
    auto raise = [&](F s) { top = s > top ? s : top; };
    if (whole > whole_end) {  // all within one vector
        raise(masked(whole_end, nothing));
    } else {
        if (first < whole) raise(masked(whole - W, nothing));
        for (int64_t j = whole; j < whole_end; j += W) raise(load(scores + j));
        if (whole_end < end) raise(masked(whole_end, nothing));
    }
    float high = largest(top);
    F total{};
    auto finish = [&](int64_t j, F s) {
        F e = exponential((s - high) * scale);
        store(scores + j, e);
        total += e;
    };
    for (int64_t j = 0; j < first / W * W; j += W) store(scores + j, F{});
    if (whole > whole_end) {
        finish(whole_end, masked(whole_end, nothing));
    } else {
        if (first < whole) finish(whole - W, masked(whole - W, nothing));
        for (int64_t j = whole; j < whole_end; j += W) finish(j, load(scores + j));
        if (whole_end < end) finish(whole_end, masked(whole_end, nothing));
    }
    for (int64_t j = rounded(end, W); j < lp; j += W) store(scores + j, F{});
    return 1.0f / sum(total);
}

// Probabilities [R, L rounded to W] of R queries from i on, each still to be multiplied by its `scales`.
template <typename T>
void probabilities(const Attention& k, const T* query, const T* key_t, int64_t i, int64_t queries, int64_t length, float* out,
                   float* scales) {
    int64_t width = k.padded_d() / packed<T>(), lp = rounded(length, W), last = i + R - 1 < queries ? i + R - 1 : queries - 1;
    products(query + i * width, key_t, width, lp, k.first_seen(i) / W * W, k.end_seen(last, length), out);
    for (int64_t r = 0; r < R; ++r) {
        if (i + r < queries)
            scales[r] = softmax(out + r * lp, lp, k.first_seen(i + r), k.end_seen(i + r, length), k.scale);
        else
            std::memset(out + r * lp, 0, sizeof(float) * lp);
    }
}

template <typename E>
void clear_gaps(const Attention& k, const View<E>& view, int64_t heads, bool first_only) {  // tokens that nobody writes
    int64_t next = 0;
    for (int64_t row = 0; row <= k.rows; ++row) {
        int64_t start = row < k.rows ? k.starts[row] : k.tokens;
        for (int64_t t = next; t < start; ++t)
            for (int64_t h = 0; h < heads; ++h) std::memset(view.at(t, h), 0, sizeof(E) * k.d);
        if (row < k.rows) next = start + (first_only ? 1 : k.lengths[row]);
    }
}

inline int64_t longest(const Attention& k) {
    int64_t most = 0;
    for (int64_t row = 0; row < k.rows; ++row) most = k.lengths[row] > most ? k.lengths[row] : most;
    return most;
}

template <typename E>
int attention_forward(const Attention& k, View<const E> q, View<const E> key, View<const E> value, View<E> out) {
    using T = Unit<E>;
    constexpr int64_t per = packed<T>();
    int64_t dp = k.padded_d(), most = rounded(longest(k), BLOCK);
    Scratch scratch(4 * room(most * dp, 4) + 2 * room(R * most, 4) + room(R * dp, 4), k.threads);
    if (!scratch) return 1;
    if (!k.first_only) clear_gaps(k, out, k.heads, false);
#pragma omp parallel num_threads(k.threads)
    {
        Scratch::Part part = scratch.part(omp_get_thread_num());
        T *query = part.take<T>(most * dp), *rows = part.take<T>(most * dp), *keys_t = part.take<T>(most * dp);
        T *along = part.take<T>(most * dp), *p_units = part.take<T>(R * most);
        float *p = part.take<float>(R * most), *o = part.take<float>(R * dp);
#pragma omp for schedule(dynamic, 4)
        for (int64_t item = 0; item < k.rows * k.heads; ++item) {
            int64_t row = item / k.heads, head = item % k.heads, from = head / k.repeats();
            int64_t start = k.starts[row], length = k.lengths[row], lp = rounded(length, W), queries = k.queries(row);
            gather(q, start, queries, head, k.d, query);
            gather(key, start, length, from, k.d, rows);
            transpose(rows, length, dp / per, keys_t);
            if (per == 1) gather(value, start, length, from, k.d, rows);
            const T* values = gather_along(value, start, length, from, k.d, rows, along);
            for (int64_t i = 0; i < queries; i += R) {
                float scales[R];
                probabilities(k, query, keys_t, i, queries, length, p, scales);
                if (k.dropout.on())
                    for (int64_t r = 0; r < R && i + r < queries; ++r) {
                        uint32_t bits = k.key(start + i + r, head);
                        for (int64_t j = 0; j < length; j += W) {
                            float* at = p + r * lp + j;
                            store(at, load(at) * k.dropout.factor(bits, (uint32_t)j));
                        }
                    }
                std::memset(o, 0, sizeof(float) * R * dp);
                int64_t last = i + R - 1 < queries ? i + R - 1 : queries - 1, end = k.end_seen(last, length);
                combine(along_keys(p, R, lp, p_units), lp / per, 1, values, k.first_seen(i) / per,
                        rounded(end, per) / per, dp, o);
                for (int64_t r = 0; r < R && i + r < queries; ++r)
                    for (int64_t c = 0; c < k.d; c += W)
                        store(out.at(k.answer(row, i + r), head) + c, load(o + r * dp + c) * scales[r], (int)(k.d - c));
            }
        }
    }
    return 0;
}

// From the probabilities' gradient g [L rounded to W] of one query to the scores' gradient; p becomes what dropout kept of it.
inline void softmax_backward(const Attention& k, float* p, float* g, float* whole, float scale, int64_t token, int64_t head,
                             int64_t first, int64_t end) {
    F inner{};
    if (k.dropout.on()) {
        uint32_t bits = k.key(token, head);
        for (int64_t j = first; j < end; j += W) {
            F w = load(p + j) * scale, kept = w * k.dropout.factor(bits, (uint32_t)j), product = kept * load(g + j);
            inner += product;
            store(g + j, product);
            store(p + j, kept);
            store(whole + j, w);
        }
        float total = sum(inner);
        for (int64_t j = first; j < end; j += W) store(g + j, load(g + j) - load(whole + j) * total);
    } else {
        for (int64_t j = first; j < end; j += W) {
            F w = load(p + j) * scale;
            inner += w * load(g + j);
            store(p + j, w);
        }
        float total = sum(inner);
        for (int64_t j = first; j < end; j += W) store(g + j, load(p + j) * (load(g + j) - total));
    }
}

template <typename E>
int attention_backward(const Attention& k, View<const E> q, View<const E> key, View<const E> value, View<const E> grad,
                        View<E> grad_q, View<E> grad_key, View<E> grad_value) {
    using T = Unit<E>;
    constexpr int64_t per = packed<T>();
    int64_t dp = k.padded_d(), most = rounded(longest(k), BLOCK);
    Scratch scratch(11 * room(most * dp, 4) + 3 * room(BLOCK * most, 4) + room(most, 4) + room(R * dp, 4), k.threads);
    if (!scratch) return 1;
    clear_gaps(k, grad_q, k.heads, k.first_only);
    clear_gaps(k, grad_key, k.key_heads, false);
    clear_gaps(k, grad_value, k.key_heads, false);
#pragma omp parallel num_threads(k.threads)
    {
        Scratch::Part part = scratch.part(omp_get_thread_num());
        T *query = part.take<T>(most * dp), *outer = part.take<T>(most * dp), *key_rows = part.take<T>(most * dp);
        T *rows = part.take<T>(most * dp), *keys_t = part.take<T>(most * dp), *values_t = part.take<T>(most * dp);
        T *keys_along = part.take<T>(most * dp), *query_along = part.take<T>(most * dp), *outer_along = part.take<T>(most * dp);
        T* units = part.take<T>(BLOCK * most);
        float *dk = part.take<float>(most * dp), *dv = part.take<float>(most * dp), *p = part.take<float>(BLOCK * most);
        float *ds = part.take<float>(BLOCK * most), *whole = part.take<float>(most), *dq = part.take<float>(R * dp);
#pragma omp for schedule(dynamic, 4)
        for (int64_t item = 0; item < k.rows * k.key_heads; ++item) {
            int64_t row = item / k.key_heads, from = item % k.key_heads;
            int64_t start = k.starts[row], length = k.lengths[row], lp = rounded(length, W), queries = k.queries(row);
            gather(key, start, length, from, k.d, key_rows);
            gather(value, start, length, from, k.d, rows);
            transpose(key_rows, length, dp / per, keys_t);
            transpose(rows, length, dp / per, values_t);
            const T* keys = gather_along(key, start, length, from, k.d, key_rows, keys_along);
            std::memset(dk, 0, sizeof(float) * rounded(length, R) * dp);
            std::memset(dv, 0, sizeof(float) * rounded(length, R) * dp);
            for (int64_t head = from * k.repeats(); head < (from + 1) * k.repeats(); ++head) {
                int64_t answer = k.answer(row, 0);
                gather(q, start, queries, head, k.d, query);
                gather(grad, answer, queries, head, k.d, outer);
                const T* asking = gather_along(q, start, queries, head, k.d, query, query_along);
                const T* outers = gather_along(grad, answer, queries, head, k.d, outer, outer_along);
                for (int64_t block = 0; block < queries; block += BLOCK) {
                    int64_t end = block + BLOCK < queries ? block + BLOCK : queries;
                    for (int64_t i = block; i < end; i += R) {
                        float *pi = p + (i - block) * lp, *di = ds + (i - block) * lp, scales[R];
                        int64_t last = i + R - 1 < queries ? i + R - 1 : queries - 1;
                        int64_t first = k.first_seen(i) / W * W, stop = k.end_seen(last, length);
                        probabilities(k, query, keys_t, i, queries, length, pi, scales);
                        products(outer + i * (dp / per), values_t, dp / per, lp, first, stop, di);
                        for (int64_t r = 0; r < R; ++r) {
                            float* dr = di + r * lp;
                            if (i + r < queries)
                                softmax_backward(k, pi + r * lp, dr, whole, scales[r], start + i + r, head, first, stop);
                            else
                                std::memset(dr, 0, sizeof(float) * lp);
                            for (int64_t j = 0; j < first; j += W) store(dr + j, F{});
                            for (int64_t j = rounded(stop, W); j < lp; j += W) store(dr + j, F{});
                        }
                        std::memset(dq, 0, sizeof(float) * R * dp);
                        combine(along_keys(di, R, lp, units), lp / per, 1, keys, first / per, rounded(stop, per) / per, dp,
                                dq);
                        for (int64_t r = 0; r < R && i + r < queries; ++r)
                            for (int64_t c = 0; c < k.d; c += W)
                                store(grad_q.at(start + i + r, head) + c, load(dq + r * dp + c) * k.scale, (int)(k.d - c));
                    }
                    int64_t count = rounded(end - block, R), items = count / per;
                    int64_t from_key = k.first_seen(block) / R * R, to_key = k.end_seen(end - 1, length);  // seen by the block
                    const T* w = along_queries(p, count, lp, units);
                    for (int64_t j = from_key; j < to_key; j += R)
                        combine(w + j, 1, lp, outers + block / per * dp, 0, items, dp, dv + j * dp);
                    w = along_queries(ds, count, lp, units);
                    for (int64_t j = from_key; j < to_key; j += R)
                        combine(w + j, 1, lp, asking + block / per * dp, 0, items, dp, dk + j * dp);
                }
            }
            for (int64_t i = 0; i < length; ++i)
                for (int64_t c = 0; c < k.d; c += W) {
                    store(grad_key.at(start + i, from) + c, load(dk + i * dp + c) * k.scale, (int)(k.d - c));
                    store(grad_value.at(start + i, from) + c, load(dv + i * dp + c), (int)(k.d - c));
                }
        }
    }
    return 0;
}

}  // namespace
