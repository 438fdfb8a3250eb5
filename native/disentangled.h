// Disentangled attention within each row of a packed batch (DeBERTa-v2 and v3), forward and backward; probabilities are not kept.
//
//     score[i, j] = (q_i . k_j + q_i . place_key[j - i] + k_j . place_query[j - i]) * scale
//
// A place is a distance j - i. Places lie in the order of j - i, so that those of a query's neighbours are side by side, each query
// beginning one place before the last one: products with places read at a slant what other products read straight. Scores'
// gradients have zeros around them for that reason. All arithmetic is fp32: the sums over places are long.
//
// Names as in attention.h; M is the length of the longest row, whose distances run from -(M - 1) to M - 1.

#pragma once

#include "rows.h"

namespace {

struct Disentangled {
    Attention rows;  // key_heads = heads; neither causal nor with a window
    int64_t places;  // 2 M - 1
    const int64_t* table_row;  // of each place; distances that are far away share one
    int64_t table_rows;
    int64_t middle() const { return places / 2; }  // the place of distance 0
    int64_t padded_places() const { return rounded(places + 2 * W, W); }
};

// The places of one head with W of them to spare on either side, which are zero.
struct Places {
    const float *keys_t, *queries_t;  // [d, padded places]
    const float *keys, *queries;      // [padded places, padded d]; null in the forward pass
    int64_t width, middle;            // padded places; index of distance 0
};

inline size_t places_room(const Disentangled& k, bool backward) {
    size_t each = room(k.padded_places() * k.rows.padded_d(), sizeof(float));
    return (backward ? 4 : 2) * each;
}

// Scratch of all heads to the places of `head`.
inline Places places_of(const Disentangled& k, const Scratch& scratch, int64_t head, bool backward) {
    Scratch::Part part = scratch.part((int)head);
    int64_t count = k.padded_places() * k.rows.padded_d();
    float *keys_t = part.take<float>(count), *queries_t = part.take<float>(count);
    float *keys = backward ? part.take<float>(count) : nullptr, *queries = backward ? part.take<float>(count) : nullptr;
    return {keys_t, queries_t, keys, queries, k.padded_places(), k.middle() + W};
}

// Rows of the table to the places of one head, which its scratch already holds as zeros.
template <typename E>
void lay_out(const Disentangled& k, const View<const E>& table, int64_t head, float* out_t, float* out) {
    int64_t d = k.rows.d, dp = k.rows.padded_d(), width = k.padded_places();
    float numbers[W];
    for (int64_t place = 0; place < k.places; ++place)
        for (int64_t c = 0; c < d; c += W) {
            F v = load(table.at(k.table_row[place], head) + c, (int)(d - c));
            if (out) store(out + (place + W) * dp + c, v);
            store(numbers, v);
            for (int64_t n = 0; n < W && c + n < d; ++n) out_t[(c + n) * width + place + W] = numbers[n];
        }
}

template <typename E>
void lay_out_all(const Disentangled& k, const Scratch& scratch, View<const E> place_key, View<const E> place_query, bool backward) {
#pragma omp parallel for num_threads(k.rows.threads) schedule(static)
    for (int64_t head = 0; head < k.rows.heads; ++head) {
        Places at = places_of(k, scratch, head, backward);
        lay_out(k, place_key, head, (float*)at.keys_t, (float*)at.keys);
        lay_out(k, place_query, head, (float*)at.queries_t, (float*)at.queries);
    }
}

// out[r, j] for R queries from i on and all keys of their row: the three terms before scaling. Beyond the last key: anything.
inline void three_terms(const Places& at, const float* query, const float* keys_t, int64_t d, int64_t dp, int64_t i, int64_t length,
                        float* out, int64_t stride) {
    int64_t lp = rounded(length, W);
    for (int64_t j = 0; j < length; j += W) {
        F asked[R]{}, placed[R]{};
        const float *place_key = at.keys_t + at.middle - i + j, *place_query = at.queries_t + at.middle - i + j;
        for (int64_t c = 0; c < d; ++c) {
            F key = load(keys_t + c * lp + j);
            for (int r = 0; r < R; ++r) {
                asked[r] += query[r * dp + c] * (key + load(place_key - r));
                placed[r] += key * load(place_query - r);
            }
            place_key += at.width;
            place_query += at.width;
        }
        for (int r = 0; r < R; ++r) store(out + r * stride + j, asked[r] + placed[r]);
    }
}

// Probabilities of R queries from i on, each still to be multiplied by its `scales`; zero for queries beyond the last.
inline void placed_probabilities(const Disentangled& k, const Places& at, const float* query, const float* keys_t, int64_t i,
                                 int64_t queries, int64_t length, float* out, int64_t stride, float* scales) {
    int64_t dp = k.rows.padded_d(), lp = rounded(length, W);
    three_terms(at, query + i * dp, keys_t, k.rows.d, dp, i, length, out, stride);
    for (int64_t r = 0; r < R; ++r) {
        if (i + r < queries)
            scales[r] = softmax(out + r * stride, lp, 0, length, k.rows.scale);
        else
            std::memset(out + r * stride, 0, sizeof(float) * lp);
    }
}

template <typename E>
int disentangled_forward(const Disentangled& all, View<const E> q, View<const E> key, View<const E> value, View<const E> place_key,
                         View<const E> place_query, View<E> out) {
    const Attention& k = all.rows;
    int64_t dp = k.padded_d(), most = rounded(longest(k), BLOCK);
    Scratch tables(places_room(all, false), (int)k.heads);
    Scratch scratch(3 * room(most * dp, 4) + room(R * most, 4) + room(R * dp, 4), k.threads);
    if (!tables || !scratch) return 1;
    if (!k.first_only) clear_gaps(k, out, k.heads, false);
    lay_out_all(all, tables, place_key, place_query, false);
#pragma omp parallel num_threads(k.threads)
    {
        Scratch::Part part = scratch.part(omp_get_thread_num());
        float *query = part.take<float>(most * dp), *rows = part.take<float>(most * dp), *keys_t = part.take<float>(most * dp);
        float *p = part.take<float>(R * most), *o = part.take<float>(R * dp);
#pragma omp for schedule(dynamic, 4)
        for (int64_t item = 0; item < k.rows * k.heads; ++item) {  // head by head: its places stay near
            int64_t head = item / k.rows, row = item % k.rows;
            int64_t start = k.starts[row], length = k.lengths[row], lp = rounded(length, W), queries = k.queries(row);
            Places at = places_of(all, tables, head, false);
            gather(q, start, queries, head, k.d, query);
            gather(key, start, length, head, k.d, rows);
            transpose(rows, length, dp, keys_t);
            gather(value, start, length, head, k.d, rows);
            for (int64_t i = 0; i < queries; i += R) {
                float scales[R];
                placed_probabilities(all, at, query, keys_t, i, queries, length, p, lp, scales);
                if (k.dropout.on())
                    for (int64_t r = 0; r < R && i + r < queries; ++r) {
                        uint32_t bits = k.key(start + i + r, head);
                        for (int64_t j = 0; j < length; j += W) {
                            float* to = p + r * lp + j;
                            store(to, load(to) * k.dropout.factor(bits, (uint32_t)j));
                        }
                    }
                std::memset(o, 0, sizeof(float) * R * dp);
                combine(p, lp, 1, rows, 0, length, dp, o);
                for (int64_t r = 0; r < R && i + r < queries; ++r)
                    for (int64_t c = 0; c < k.d; c += W)
                        store(out.at(k.answer(row, i + r), head) + c, load(o + r * dp + c) * scales[r], (int)(k.d - c));
            }
        }
    }
    return 0;
}

// --- backward ---------------------------------------------------------------------------------------------------------

// Gradients of the scores of a block of queries, [BLOCK, L rounded to W], with zeros on all sides: whoever reads them at a slant
// runs over their edges.
struct Slanted {
    float* memory;
    int64_t stride;
    static int64_t room_for(int64_t most) { return (BLOCK + 2 * R) * (most + 2 * W); }
    Slanted(float* memory, int64_t length) : memory(memory), stride(rounded(length, W) + 2 * W) {
        std::memset(memory, 0, sizeof(float) * (BLOCK + 2 * R) * stride);
    }
    float* at(int64_t query, int64_t key) const { return memory + (query + R) * stride + W + key; }
};

// One row of one head: everything that the sums of the backward pass read, in fp32.
struct RowTerms {
    const float *query, *outer;  // [L, padded d]; outer: the output's gradient
    const float *keys;
    int64_t length, dp;
};

// The gradients' sums over a block of queries, [first, end) of the row; `ds` counts queries from `first`.
inline void add_to_places(const RowTerms& row, const Slanted& ds, int64_t first, int64_t end, int64_t middle, float* grad_key,
                          float* grad_query) {
    int64_t dp = row.dp, length = row.length;
    // Queries [first, end) see the distances from -(end - 1) to length - 1 - first.
    for (int64_t away = 1 - end; away < length - first; away += R) {
        float *to_key = grad_key + (middle + away) * dp, *to_query = grad_query + (middle + away) * dp;
        // Distances away to away + R - 1: queries i whose key i + away + r may exist.
        int64_t from = first > -away - (R - 1) ? first : -away - (R - 1), to = end < length - away ? end : length - away;
        combine(ds.at(from - first, from + away), 1, ds.stride + 1, row.query + from * dp, 0, to - from, dp, to_key);
        // Keys j whose query j - away - r may lie in the block.
        from = first + away > 0 ? first + away : 0;
        to = end + away + R - 1 < length ? end + away + R - 1 : length;
        combine(ds.at(from - away - first, from), -ds.stride, ds.stride + 1, row.keys + from * dp, 0, to - from, dp, to_query);
    }
}

// dk and dv, [L rounded to R, padded d], of a block of queries.
inline void add_to_keys(const RowTerms& row, const Places& at, const Slanted& ds, const float* p, int64_t p_stride, int64_t first,
                        int64_t end, float* dk, float* dv) {
    int64_t dp = row.dp, count = end - first;
    for (int64_t j = 0; j < row.length; j += R) {
        combine(p + j, 1, p_stride, row.outer + first * dp, 0, count, dp, dv + j * dp);
        combine(ds.at(0, j), 1, ds.stride, row.query + first * dp, 0, count, dp, dk + j * dp);
        // Seen from key j + r, the places of the block's queries from the last to the first.
        combine(ds.at(count - 1, j), ds.stride + 1, -ds.stride, at.queries + (at.middle + j - (end - 1)) * dp, 0, count + R - 1, dp,
                dk + j * dp);
    }
}

// Items [first, end) of each thread: head by head, cut so that all threads have about as much to do whatever the lengths.
// The same thread always has the same items, so that sums over rows repeat exactly.
struct Shares {
    const Attention& k;
    int64_t row_sum = 0;
    explicit Shares(const Attention& k) : k(k) {
        for (int64_t row = 0; row < k.rows; ++row) row_sum += cost(row);
    }
    int64_t cost(int64_t row) const { return (k.queries(row) + R) * (k.lengths[row] + W); }
    int64_t first_item(int thread) const {
        if (thread >= k.threads) return k.heads * k.rows;
        int64_t before = row_sum * k.heads / k.threads * thread;
        int64_t item = row_sum ? before / row_sum * k.rows : 0, done = row_sum ? before / row_sum * row_sum : 0;
        for (int64_t row = 0; row < k.rows && done + cost(row) <= before; ++row, ++item) done += cost(row);
        return item;
    }
};

// Sums of all threads, added up in the order of the threads; places that share a row of the table are added up too.
inline void add_up(const Disentangled& all, const Shares& shares, const Scratch& sums, float* grad_key, float* grad_query) {
    const Attention& k = all.rows;
    int64_t dp = k.padded_d(), each = all.padded_places() * dp;
#pragma omp parallel for num_threads(k.threads) schedule(static)
    for (int64_t head = 0; head < k.heads; ++head)
        for (int term = 0; term < 2; ++term) {
            float* out = term ? grad_query : grad_key;
            for (int64_t row = 0; row < all.table_rows; ++row) std::memset(out + (row * k.heads + head) * k.d, 0, sizeof(float) * k.d);
            for (int t = 0; t < k.threads; ++t) {
                int64_t first = shares.first_item(t), end = shares.first_item(t + 1);
                if (end <= head * k.rows || first >= (head + 1) * k.rows) continue;
                const float* mine = sums.part(t).take<float>(2 * k.heads * each) + (2 * head + term) * each;
                for (int64_t place = 0; place < all.places; ++place) {
                    float* to = out + (all.table_row[place] * k.heads + head) * k.d;
                    const float* from = mine + (place + W) * dp;
                    for (int64_t c = 0; c < k.d; c += W) {
                        int n = (int)(k.d - c);
                        store(to + c, load(to + c, n) + load(from + c) * k.scale, n);
                    }
                }
            }
        }
}

// grad_place_key and grad_place_query: fp32 [table rows, heads, d].
template <typename E>
int disentangled_backward(const Disentangled& all, View<const E> q, View<const E> key, View<const E> value, View<const E> place_key,
                          View<const E> place_query, View<const E> grad, View<E> grad_q, View<E> grad_key, View<E> grad_value,
                          float* grad_place_key, float* grad_place_query) {
    const Attention& k = all.rows;
    int64_t dp = k.padded_d(), most = rounded(longest(k), BLOCK), each = all.padded_places() * dp;
    Scratch tables(places_room(all, true), (int)k.heads), sums(room(2 * k.heads * each, 4), k.threads);
    Scratch scratch(8 * room(most * dp, 4) + room(BLOCK * most, 4) + room(Slanted::room_for(most), 4) + room(R * most, 4) + room(most, 4) +
                        room(R * dp, 4),
                    k.threads);
    if (!tables || !sums || !scratch) return 1;
    clear_gaps(k, grad_q, k.heads, k.first_only);
    clear_gaps(k, grad_key, k.heads, false);
    clear_gaps(k, grad_value, k.heads, false);
    lay_out_all(all, tables, place_key, place_query, true);
    Shares shares(k);
#pragma omp parallel for num_threads(k.threads) schedule(static, 1)
    for (int thread = 0; thread < k.threads; ++thread) {
        Scratch::Part part = scratch.part(thread);
        float *query = part.take<float>(most * dp), *outer = part.take<float>(most * dp), *keys = part.take<float>(most * dp);
        float *values = part.take<float>(most * dp), *keys_t = part.take<float>(most * dp), *values_t = part.take<float>(most * dp);
        float *dk = part.take<float>(most * dp), *dv = part.take<float>(most * dp), *p = part.take<float>(BLOCK * most);
        float *slanted = part.take<float>(Slanted::room_for(most)), *g = part.take<float>(R * most);
        float *whole = part.take<float>(most), *dq = part.take<float>(R * dp);
        float* places = sums.part(thread).take<float>(2 * k.heads * each);
        for (int64_t item = shares.first_item(thread); item < shares.first_item(thread + 1); ++item) {
            int64_t head = item / k.rows, row = item % k.rows;
            int64_t start = k.starts[row], length = k.lengths[row], lp = rounded(length, W), queries = k.queries(row);
            Places at = places_of(all, tables, head, true);
            gather(q, start, queries, head, k.d, query);
            gather(grad, k.answer(row, 0), queries, head, k.d, outer);
            gather(key, start, length, head, k.d, keys);
            gather(value, start, length, head, k.d, values);
            transpose(keys, length, dp, keys_t);
            transpose(values, length, dp, values_t);
            std::memset(dk, 0, sizeof(float) * rounded(length, R) * dp);
            std::memset(dv, 0, sizeof(float) * rounded(length, R) * dp);
            RowTerms terms{query, outer, keys, length, dp};
            for (int64_t first = 0; first < queries; first += BLOCK) {
                int64_t end = first + BLOCK < queries ? first + BLOCK : queries;
                Slanted ds(slanted, length);
                for (int64_t i = first; i < end; i += R) {
                    float *pi = p + (i - first) * lp, scales[R];
                    placed_probabilities(all, at, query, keys_t, i, queries, length, pi, lp, scales);
                    products(outer + i * dp, values_t, dp, lp, 0, length, g);
                    for (int64_t r = 0; r < R && i + r < queries; ++r) {
                        softmax_backward(k, pi + r * lp, g + r * lp, whole, scales[r], start + i + r, head, 0, length);
                        std::memcpy(ds.at(i - first + r, 0), g + r * lp, sizeof(float) * length);
                    }
                    std::memset(dq, 0, sizeof(float) * R * dp);
                    combine(ds.at(i - first, 0), ds.stride, 1, keys, 0, length, dp, dq);
                    // Seen from query i + r, places from that of its row's first key on.
                    combine(ds.at(i - first, 1 - R), ds.stride + 1, 1, at.keys + (at.middle - i + 1 - R) * dp, 0, length + R - 1, dp, dq);
                    for (int64_t r = 0; r < R && i + r < queries; ++r)
                        for (int64_t c = 0; c < k.d; c += W)
                            store(grad_q.at(start + i + r, head) + c, load(dq + r * dp + c) * k.scale, (int)(k.d - c));
                }
                add_to_keys(terms, at, ds, p, lp, first, end, dk, dv);
                add_to_places(terms, ds, first, end, at.middle, places + 2 * head * each, places + (2 * head + 1) * each);
            }
            for (int64_t i = 0; i < length; ++i)
                for (int64_t c = 0; c < k.d; c += W) {
                    store(grad_key.at(start + i, head) + c, load(dk + i * dp + c) * k.scale, (int)(k.d - c));
                    store(grad_value.at(start + i, head) + c, load(dv + i * dp + c), (int)(k.d - c));
                }
        }
    }
    add_up(all, shares, sums, grad_place_key, grad_place_query);
    return 0;
}

}  // namespace
