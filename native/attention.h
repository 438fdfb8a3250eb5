// Attention within each row of a packed batch, forward and backward; exact lengths, no padding, no stored probabilities.
//
// Work goes by row and head, and within them by blocks of queries: scores of a block lie in panels (tiles.h), which stay in the
// nearest cache while products of them are taken. Only keys that the block sees are computed.

#pragma once

#include <initializer_list>

#include "layout.h"

namespace {

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
    int64_t panel_width(int64_t packed) const { return rounded((d + packed - 1) / packed, 4); }  // units of d in a panel
    uint32_t key(int64_t token, int64_t head) const { return dropout.row((uint32_t)(token * heads + head)); }
    int64_t first_seen(int64_t i) const { return window && i >= window ? i - window + 1 : 0; }
    int64_t end_seen(int64_t i, int64_t length) const {
        int64_t end = causal ? i + 1 : window ? i + window : length;
        return end < length ? end : length;
    }
};

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


// A query's keys, [first, end), among those of its block, [block_first, block_end), whose scores stand in panels.
struct Seen {
    int64_t first, end, block_first, block_end;

    struct Whole {};  // a vector of keys that are all seen
    static F only(Whole, F v, F) { return v; }
    static F only(I seen, F v, F other) { return seen ? v : other; }
    I mask(int64_t j) const {
        I lane = (I)lane_u(), from = lane >= (int32_t)(first - j), to = lane < (int32_t)(end - j);
        return from & to;
    }
    static int64_t at(int64_t j) { return j / P * P * QUERIES + j % P; }

    // Calls `call(place among the scores, key, Whole or mask)` for vectors of keys.
    template <typename Call>
    INLINE void each(Call&& call) const {
        int64_t j = first / W * W;
        for (; j < end && (j < first || j % P); j += W) call(at(j), j, mask(j));
        for (; j + P <= end; j += P) {
            call(j * QUERIES, j, Whole{});
            call(j * QUERIES + W, j + W, Whole{});
        }
        for (; j < end; j += W) call(at(j), j, mask(j));
    }
    void clear_others(float* row) const {
        for (int64_t j = block_first; j < first / W * W; j += W) store(row + at(j), F{});
        for (int64_t j = rounded(end, W); j < block_end; j += W) store(row + at(j), F{});
    }
    float highest(const float* row) const {
        F top = splat(-3.0e38f);
        each([&](int64_t at, int64_t, auto seen) { top = larger(only(seen, load(row + at), top), top); });
        return largest(top);
    }
};

constexpr float LOG2_E = 1.44269504f;

// Scores of one query to exp((score - highest) * scale), those that dropout takes to zero; other keys of the block get zero.
// Returns 1 / sum of all.
template <bool DROPS>
float softmax(const Attention& k, const Seen& seen, float* row, uint32_t key) {
    float to_power = k.scale * LOG2_E, high = seen.highest(row);
    F total{};
    seen.clear_others(row);
    seen.each([&](int64_t at, int64_t j, auto visible) {
        F e = seen.only(visible, power_of_two(load(row + at) - high, to_power), F{});
        total += e;
        store(row + at, DROPS ? e * k.dropout.factor(key, (uint32_t)j) : e);
    });
    return 1.0f / sum(total);
}

// Scores of one query, and its output's gradient times the values, to the probabilities that dropout left and the scores' gradient.
template <bool DROPS>
void softmax_backward(const Attention& k, const Seen& seen, float* row, float* grad, uint32_t key) {
    float to_power = k.scale * LOG2_E, high = seen.highest(row);
    F total{}, product{};
    seen.clear_others(row);
    seen.clear_others(grad);
    seen.each([&](int64_t at, int64_t j, auto visible) {
        F e = seen.only(visible, power_of_two(load(row + at) - high, to_power), F{}), g = load(grad + at);
        total += e;
        if (DROPS) {
            I taken = k.dropout.takes(key, (uint32_t)j);
            product += taken ? F{} : e * g;
            e = taken ? -e : e;  // the sign remembers what was taken
        } else {
            product += e * g;
        }
        store(row + at, e);
    });
    float scale = 1.0f / sum(total), kept = DROPS ? k.dropout.rescale : 1.0f, inner = sum(product) * scale * kept;
    seen.each([&](int64_t at, int64_t, auto) {
        F e = load(row + at), g = load(grad + at);
        if (DROPS) {
            F w = (F)((I)e & 0x7fffffff) * scale, left = w * ((I)e < 0 ? F{} : splat(kept));
            store(row + at, left);
            store(grad + at, left * g - w * inner);
        } else {
            F w = e * scale;
            store(row + at, w);
            store(grad + at, w * (g - inner));
        }
    });
}

// The queries [first, first + count) of a row, and the keys that any of them sees, from whole panels on.
struct Block {
    int64_t first, keys, keys_end;
    int count;
    Block(const Attention& k, int64_t first, int64_t queries, int64_t length) : first(first) {
        count = (int)(queries - first < QUERIES ? queries - first : QUERIES);
        keys = k.first_seen(first) / P * P;
        keys_end = k.end_seen(first + count - 1, length);
    }
    Seen seen(const Attention& k, int r, int64_t length) const {
        return {k.first_seen(first + r), k.end_seen(first + r, length), keys, rounded(keys_end, W)};
    }
};

// Of each query, sum_j weights[query, j] * rows[j] over the block's keys: calls `store_sum(query, c, sum)`.
template <typename T, typename Call>
void sum_over_keys(const Block& block, const T* weights, const T* rows, int64_t dp, Call&& store_sum) {
    constexpr int64_t per = packed<T>();
    in_parts<MOST>(block.count, [&](int first, auto m) {
        by_columns(dp, [&](int64_t c, auto v) {
            Sums<decltype(m)::value, decltype(v)::value> sums{};
            for (int64_t j = block.keys; j < block.keys_end; j += P) {
                int64_t items = (block.keys_end - j < P ? block.keys_end - j : P) + per - 1;
                sums.add(weights + (j * QUERIES + first * P) / per, P / per, 1, rows + j / per * dp + c, dp, items / per);
            }
            sums.each([&](int r, int n, F s) { store_sum(first + r, c + n * W, s); });
        });
    });
}

// Of each key of the block, sum_i weights[i, key] * rows[i] over its queries, added to `before(key, c)`: calls `store_sum(key, c, sum)`.
template <typename T, typename Before, typename Call>
void sum_over_queries(const Block& block, const T* weights, const T* rows, int64_t dp, Before&& before, Call&& store_sum) {
    constexpr int64_t per = packed<T>();
    for (int64_t j = block.keys; j < block.keys_end; j += P)
        in_parts<MOST>((int)(block.keys_end - j < P ? block.keys_end - j : P), [&](int first, auto m) {
            by_columns(dp, [&](int64_t c, auto v) {
                constexpr int M = decltype(m)::value, V = decltype(v)::value;
                Sums<M, V> sums;
                for (int r = 0; r < M; ++r)
                    for (int n = 0; n < V; ++n) sums.of[r][n] = before(j + first + r, c + n * W);
                sums.add(weights + j * QUERIES / per + first, 1, P, rows + block.first / per * dp + c, dp, (block.count + per - 1) / per);
                sums.each([&](int r, int n, F s) { store_sum(j + first + r, c + n * W, s); });
            });
        });
}

inline int chunk(int64_t items, int threads) {  // items that a thread takes at once: few where there are few
    int64_t each = items / (16 * threads);
    return each < 1 ? 1 : each > 8 ? 8 : (int)each;
}

// A thread's memory for one row and head of the forward pass.
template <typename T>
struct Forward {
    T *query, *rows, *keys_t, *values_along, *units;
    float* p;
    static size_t size(int64_t most, int64_t dp) { return 4 * room(most * dp, 4) + 2 * room(QUERIES * most, 4); }
    Forward(Scratch::Part part, int64_t most, int64_t dp) {
        for (T** each : {&query, &rows, &keys_t, &values_along}) *each = part.take<T>(most * dp);
        units = part.take<T>(QUERIES * most), p = part.take<float>(QUERIES * most);
    }
};

template <typename T, typename E>
int forward_in_units(const Attention& k, View<const E> q, View<const E> key, View<const E> value, View<E> out) {
    constexpr int64_t per = packed<T>();
    int64_t dp = k.padded_d(), stride = dp / per, wide = k.panel_width(per), most = rounded(longest(k), P), items = k.rows * k.heads;
    Scratch scratch(Forward<T>::size(most, dp), k.threads);
    if (!scratch) return 1;
    if (!k.first_only) clear_gaps(k, out, k.heads, false);
#pragma omp parallel num_threads(k.threads)
    {
        Forward<T> s(scratch.part(omp_get_thread_num()), most, dp);
#pragma omp for schedule(dynamic, chunk(items, k.threads))
        for (int64_t item = 0; item < items; ++item) {
            int64_t row = item / k.heads, head = item % k.heads, from = head / k.repeats();
            int64_t start = k.starts[row], length = k.lengths[row], queries = k.queries(row);
            gather(q, start, queries, head, k.d, s.query);
            gather(key, start, length, from, k.d, s.rows);
            to_panels(s.rows, length, stride, wide, s.keys_t);
            gather(value, start, length, from, k.d, s.rows);
            const T* values = along(s.rows, length, dp, s.values_along);
            for (int64_t first = 0; first < queries; first += QUERIES) {
                Block block(k, first, queries, length);
                float scales[QUERIES];
                score(s.query + first * stride, stride, block.count, s.keys_t, wide, block.keys, block.keys_end, s.p);
                for (int r = 0; r < block.count; ++r) {
                    uint32_t bits = k.key(start + first + r, head);
                    Seen seen = block.seen(k, r, length);
                    float* p = s.p + r * P;
                    scales[r] = k.dropout.on() ? softmax<true>(k, seen, p, bits) : softmax<false>(k, seen, p, bits);
                }
                const T* weights = along_keys(s.p, block.count, block.keys, block.keys_end, s.units);
                sum_over_keys(block, weights, values, dp, [&](int r, int64_t c, F sum) {
                    store(out.at(k.answer(row, first + r), head) + c, sum * scales[r], (int)(k.d - c));
                });
            }
        }
    }
    return 0;
}

// A thread's memory for one row and key head of the backward pass.
template <typename T>
struct Backward {
    T *query, *outer, *rows, *keys_t, *values_t, *keys_along, *query_along, *outer_along, *units;
    float *dk, *dv, *p, *ds;
    static size_t size(int64_t most, int64_t dp) { return 10 * room(most * dp, 4) + 3 * room(QUERIES * most, 4); }
    Backward(Scratch::Part part, int64_t most, int64_t dp) {
        for (T** each : {&query, &outer, &rows, &keys_t, &values_t, &keys_along, &query_along, &outer_along})
            *each = part.take<T>(most * dp);
        dk = part.take<float>(most * dp), dv = part.take<float>(most * dp);
        units = part.take<T>(QUERIES * most);
        p = part.take<float>(QUERIES * most), ds = part.take<float>(QUERIES * most);
    }
};

// The probabilities and the scores' gradients of a block of queries, into s.p and s.ds.
template <typename T>
void block_gradients(const Attention& k, const Block& block, const Backward<T>& s, int64_t row, int64_t head) {
    int64_t stride = k.padded_d() / packed<T>(), wide = k.panel_width(packed<T>()), skip = block.first * stride;
    score(s.query + skip, stride, block.count, s.keys_t, wide, block.keys, block.keys_end, s.p);
    score(s.outer + skip, stride, block.count, s.values_t, wide, block.keys, block.keys_end, s.ds);
    for (int r = 0; r < block.count; ++r) {
        uint32_t bits = k.key(k.starts[row] + block.first + r, head);
        Seen seen = block.seen(k, r, k.lengths[row]);
        float *p = s.p + r * P, *ds = s.ds + r * P;
        k.dropout.on() ? softmax_backward<true>(k, seen, p, ds, bits) : softmax_backward<false>(k, seen, p, ds, bits);
    }
}

template <typename T, typename E>
int backward_in_units(const Attention& k, View<const E> q, View<const E> key, View<const E> value, View<const E> grad,
                      View<E> grad_q, View<E> grad_key, View<E> grad_value) {
    constexpr int64_t per = packed<T>();
    int64_t dp = k.padded_d(), stride = dp / per, wide = k.panel_width(per), most = rounded(longest(k), P);
    int64_t items = k.rows * k.key_heads;
    Scratch scratch(Backward<T>::size(most, dp), k.threads);
    if (!scratch) return 1;
    clear_gaps(k, grad_q, k.heads, k.first_only);
    clear_gaps(k, grad_key, k.key_heads, false);
    clear_gaps(k, grad_value, k.key_heads, false);
#pragma omp parallel num_threads(k.threads)
    {
        Backward<T> s(scratch.part(omp_get_thread_num()), most, dp);
#pragma omp for schedule(dynamic, chunk(items, k.threads))
        for (int64_t item = 0; item < items; ++item) {
            int64_t row = item / k.key_heads, from = item % k.key_heads;
            int64_t start = k.starts[row], length = k.lengths[row], queries = k.queries(row);
            gather(value, start, length, from, k.d, s.rows);
            to_panels(s.rows, length, stride, wide, s.values_t);
            gather(key, start, length, from, k.d, s.rows);
            to_panels(s.rows, length, stride, wide, s.keys_t);
            const T* keys = along(s.rows, length, dp, s.keys_along);
            auto put = [&](const View<E>& view, float scale) {
                return [&, scale](int64_t j, int64_t c, F sum) { store(view.at(start + j, from) + c, sum * scale, (int)(k.d - c)); };
            };
            auto put_key = put(grad_key, k.scale), put_value = put(grad_value, 1.0f);
            // Where one block is all that there is, its sums are the gradients; else they are added up in dk and dv.
            Block all(k, 0, queries, length);
            bool at_once = k.repeats() == 1 && queries <= QUERIES && all.keys == 0 && all.keys_end == length;
            if (!at_once)
                for (float* sums : {s.dk, s.dv}) std::memset(sums, 0, sizeof(float) * length * dp);
            for (int64_t head = from * k.repeats(); head < (from + 1) * k.repeats(); ++head) {
                gather(q, start, queries, head, k.d, s.query);
                gather(grad, k.answer(row, 0), queries, head, k.d, s.outer);
                const T *asking = along(s.query, queries, dp, s.query_along), *outers = along(s.outer, queries, dp, s.outer_along);
                for (int64_t first = 0; first < queries; first += QUERIES) {
                    Block block(k, first, queries, length);
                    block_gradients(k, block, s, row, head);
                    const T* w = along_keys(s.ds, block.count, block.keys, block.keys_end, s.units);
                    sum_over_keys(block, w, keys, dp, [&](int r, int64_t c, F sum) {
                        store(grad_q.at(start + first + r, head) + c, sum * k.scale, (int)(k.d - c));
                    });
                    auto add = [&](const float* weights, const T* rows, float* sums, auto&& put_sum) {
                        w = along_queries(weights, block.count, block.keys, block.keys_end, s.units);
                        sum_over_queries(block, w, rows, dp, [&](int64_t j, int64_t c) { return at_once ? F{} : load(sums + j * dp + c); },
                                         [&](int64_t j, int64_t c, F sum) { at_once ? put_sum(j, c, sum) : store(sums + j * dp + c, sum); });
                    };
                    add(s.p, outers, s.dv, put_value);
                    add(s.ds, asking, s.dk, put_key);
                }
            }
            for (int64_t j = 0; j < length && !at_once; ++j)
                for (int64_t c = 0; c < dp; c += W) put_key(j, c, load(s.dk + j * dp + c)), put_value(j, c, load(s.dv + j * dp + c));
        }
    }
    return 0;
}

template <typename E>
int attention_forward(const Attention& k, View<const E> q, View<const E> key, View<const E> value, View<E> out) {
    return pairs_are_faster<E>() ? forward_in_units<Unit<E>>(k, q, key, value, out) : forward_in_units<float>(k, q, key, value, out);
}

template <typename E>
int attention_backward(const Attention& k, View<const E> q, View<const E> key, View<const E> value, View<const E> grad,
                       View<E> grad_q, View<E> grad_key, View<E> grad_value) {
    return pairs_are_faster<E>() ? backward_in_units<Unit<E>>(k, q, key, value, grad, grad_q, grad_key, grad_value)
                                 : backward_in_units<float>(k, q, key, value, grad, grad_q, grad_key, grad_value);
}

}  // namespace
