// The functions that Python calls for disentangled attention; kernels.cpp says what holds for all of them.

#include "disentangled.h"

#include "call.h"

struct DisentangledCall : Call {
    int64_t rows, tokens, heads, d, first_only;
    int64_t places, table_rows;  // places: 2 M - 1
    double scale, dropout;
    uint64_t seed;
    const int64_t *starts, *lengths;
    const int64_t* place_rows;  // of the table, for each place
    Tensor query, key, value;
    Tensor place_key, place_query;  // [table rows, heads, d]
    Tensor output;                  // forward: the result; backward: its gradient
    Tensor grad_query, grad_key, grad_value;
    float *grad_place_key, *grad_place_query;  // [table rows, heads, d]
};

static int check(const DisentangledCall* k) {
    if (int wrong = mistake(k)) return wrong;
    if (k->rows < 0 || k->tokens < 0 || k->heads < 1 || k->d < 1 || !(k->dropout >= 0 && k->dropout < 1)) return OUT_OF_RANGE;
    int64_t next = 0;
    for (int64_t row = 0; row < k->rows; ++row) {  // rows follow each other, lie within the tokens and have places enough
        int64_t start = k->starts[row], length = k->lengths[row];
        if (start < next || length < (k->first_only ? 1 : 0) || length > k->tokens - start) return OUT_OF_RANGE;
        if (length > (k->places + 1) / 2) return OUT_OF_RANGE;
        next = start + length;
    }
    for (int64_t place = 0; place < k->places; ++place)
        if (k->place_rows[place] < 0 || k->place_rows[place] >= k->table_rows) return OUT_OF_RANGE;
    return k->places % 2 ? DONE : OUT_OF_RANGE;
}

static Disentangled disentangled_of(const DisentangledCall* k) {
    Dropout dropout(k->dropout, k->seed);
    Attention rows{k->starts, k->lengths, k->rows, k->tokens, k->heads, k->heads, k->d, 0,
                   0, (int)k->first_only, (float)k->scale, dropout, (int)k->threads};
    return {rows, k->places, k->place_rows, k->table_rows};
}

template <typename E>
static View<E> view(const Tensor& tensor) {
    return {(E*)tensor.data, tensor.token, tensor.head};
}

template <typename E>
static int forward(const DisentangledCall* k) {
    return disentangled_forward<E>(disentangled_of(k), view<const E>(k->query), view<const E>(k->key), view<const E>(k->value),
                                   view<const E>(k->place_key), view<const E>(k->place_query), view<E>(k->output));
}

template <typename E>
static int backward(const DisentangledCall* k) {
    return disentangled_backward<E>(disentangled_of(k), view<const E>(k->query), view<const E>(k->key), view<const E>(k->value),
                                    view<const E>(k->place_key), view<const E>(k->place_query), view<const E>(k->output),
                                    view<E>(k->grad_query), view<E>(k->grad_key), view<E>(k->grad_value), k->grad_place_key,
                                    k->grad_place_query);
}

EXPORTED textune_disentangled_forward(const DisentangledCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = forward<E>(k))
    return answer;
}

EXPORTED textune_disentangled_backward(const DisentangledCall* k) {
    int answer = check(k);
    if (answer) return answer;
    BY_TYPE(k->low, answer = backward<E>(k))
    return answer;
}
