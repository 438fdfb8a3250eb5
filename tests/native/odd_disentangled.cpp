#include "disentangled.cpp"

#include "odd.h"

namespace {

void attend(bool low, int64_t d, std::vector<int64_t> lengths, int64_t longest, bool first_only, double dropout) {
    std::vector<int64_t> starts;
    int64_t tokens = 1, heads = 2, table_rows = longest < 9 ? longest : 9, places = 2 * longest - 1;
    for (int64_t length : lengths) starts.push_back(tokens), tokens += length + (length > 5);  // tokens of no row in between
    int64_t answers = first_only ? (int64_t)starts.size() : tokens;
    std::vector<int64_t> place_rows;
    for (int64_t place = 0; place < places; ++place) place_rows.push_back(place % table_rows);
    Memory query(tokens * heads * d, low), key(tokens * heads * d, low), value(tokens * heads * d, low);
    Memory grad_query(tokens * heads * d, low), grad_key(tokens * heads * d, low), grad_value(tokens * heads * d, low);
    Memory output(answers * heads * d, low), place_key(table_rows * heads * d, low), place_query(table_rows * heads * d, low);
    Memory grad_place_key(table_rows * heads * d, false), grad_place_query(table_rows * heads * d, false);
    auto of = [&](const Memory& memory) { return Tensor{memory, heads * d, d}; };
    DisentangledCall call = call_of<DisentangledCall>(low);
    call.rows = (int64_t)starts.size(), call.tokens = tokens, call.heads = heads, call.d = d, call.first_only = first_only;
    call.places = places, call.table_rows = table_rows, call.scale = 0.2, call.dropout = dropout, call.seed = 7;
    call.starts = starts.data(), call.lengths = lengths.data(), call.place_rows = place_rows.data();
    call.query = of(query), call.key = of(key), call.value = of(value), call.output = of(output);
    call.place_key = of(place_key), call.place_query = of(place_query);
    call.grad_query = of(grad_query), call.grad_key = of(grad_key), call.grad_value = of(grad_value);
    call.grad_place_key = grad_place_key, call.grad_place_query = grad_place_query;
    require(textune_disentangled_forward(&call));
    require(textune_disentangled_backward(&call));
}

}  // namespace

int main() {
    for (bool low : {false, true})
        for (int64_t d : {1, 5, 20, 24, 64, 96})
            for (int which = 0; which < 4; ++which) {
                bool first_only = which & 1;
                double dropout = which & 2 ? 0.2 : 0.0;
                attend(low, d, {1, 5, 13, 32, 33, 70}, 70, first_only, dropout);
                attend(low, d, {31}, 31, first_only, dropout);
                attend(low, d, {1}, 1, first_only, dropout);
                attend(low, d, {2, 3, 4}, 19, first_only, dropout);
                attend(low, d, {}, 1, first_only, dropout);
                if (!first_only) attend(low, d, {0, 4, 0}, 4, false, dropout);
            }
    return finish();
}
