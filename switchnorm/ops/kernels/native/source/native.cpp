// Normalization on the CPU: moments -> rule -> affine (-> add -> ReLU) in one call, its gradients in another, and the
// single passes for rules that need something between them. Neither torch nor a C++ library is linked.
#include "rows.h"
#include "rule.h"

// Maps whose constants are made at a time, at most.
const int64_t MAPS = 512;
// Elements of a run of maps, at least: processors foresee addresses within a run, and not from one run back to another.
const int64_t RUN = 1 << 16;
// Elements of maps up to which four are summed side by side.
const int64_t SHORT = 1024;
// Elements of a piece of a channels-last sample; pieces depend on the shape alone, so that threads do not change a bit.
const int64_t PIECE = 1 << 18;

// Elements of x up to which it may lie in a cache.
const int64_t CACHED = 1 << 20;

template <class T> struct Passes {
    typedef Computed<T> A;
    const Call& call;
    const Rule& rule;
    const int64_t n, c, size, pieces, padded, maps;
    const bool by_rows;
    double* partial;  // (N, pieces, 3, C) where a sample has several pieces

    Passes(const Call& call, const Rule& rule, double* partial)
        : call(call), rule(rule), n(call.samples), c(call.channels), size(call.size), pieces(pieces_of(call)),
          padded((call.channels + 15) / 16 * 16), maps(maps_of(call)), by_rows(rows(call)), partial(partial) {}

    // Maps of a single element lie in memory as rows do.
    static bool rows(const Call& call) { return call.channels_last || call.size == 1; }

    static int64_t maps_of(const Call& call) {
        int64_t wanted = RUN / call.size / 8 * 8 + 8;
        return wanted < MAPS ? wanted : MAPS;
    }

    static int64_t pieces_of(const Call& call) {
        if (!rows(call)) return 1;
        int64_t wanted = (call.size * call.channels + PIECE - 1) / PIECE, most = call.size / (2 * MANY);
        return wanted < most ? wanted : most > 1 ? most : 1;
    }

    static int64_t partials(const Call& call) {
        int64_t pieces = pieces_of(call);
        return pieces > 1 ? call.samples * pieces * 3 * call.channels : 0;
    }

    const T* x() const { return (const T*)call.x; }
    const T* residual() const { return (const T*)(call.residual ? call.residual : call.x); }
    const T* dy() const { return (const T*)call.dy; }
    const T* y() const { return (const T*)(call.y ? call.y : (void*)call.x); }
    int64_t first_row(int64_t piece) const { return size * piece / pieces; }
    int64_t offset(int64_t sample, int64_t piece) const { return (sample * size + first_row(piece)) * c; }
    int64_t rows_of(int64_t piece) const { return first_row(piece + 1) - first_row(piece); }

    // Tables of one row of channels in the arithmetic of elements.
    struct Rows : Memory {
        Row<A> row;
        double *first, *second, *mixed;
        Rows(int64_t padded, bool announces)
            : Memory(7 * padded * (int64_t)sizeof(A) + 3 * padded * 8) {
            if (!held) return;
            A* next = (A*)(held + 3 * padded * 8);
            A** tables[] = {&row.centre, &row.scale, &row.shift, &row.slope, &row.constant, &row.first, &row.second};
            for (A** table : tables) *table = next, next += padded;
            row.announces = announces;
            first = (double*)held, second = first + padded, mixed = second + padded;
        }
    };

    // Calls body(sample, piece, rows) for the pieces of some samples.
    template <class F> bool over_pieces(int64_t threads, int64_t start, int64_t end, bool backwards, F body) const {
        int64_t count = (end - start) * pieces;
        bool short_of_memory = false;
        bool done = spread(call, threads, count, (end - start) * c * size, [&](int64_t from, int64_t to) {
            Rows rows(padded, n * c * size >= CACHED);
            if (!rows.held) {
                __atomic_store_n(&short_of_memory, true, __ATOMIC_RELAXED);
                return;
            }
            for (int64_t i = from; i < to; i++) {
                int64_t at = backwards ? from + to - 1 - i : i;
                body(start + at / pieces, at % pieces, rows);
            }
        });
        return done && !short_of_memory;
    }

    // Calls body(sample, from, to) for runs of channels of some samples, in which maps follow one another.
    template <class F> bool over_maps(int64_t threads, int64_t start, int64_t end, bool backwards, F body) const {
        int64_t tiles = (c + maps - 1) / maps;
        return spread(call, threads, (end - start) * tiles, (end - start) * c * size, [&](int64_t from, int64_t to) {
            for (int64_t i = from; i < to; i++) {
                int64_t at = backwards ? from + to - 1 - i : i, first = at % tiles * maps;
                body(start + at / tiles, first, first + maps < c ? first + maps : c);
            }
        });
    }

    bool moments(int64_t threads, int64_t start, int64_t end) const {
        double *mean = rule.mean, *var = rule.var;
        if (!by_rows)
            return over_maps(threads, start, end, false, [&](int64_t sample, int64_t from, int64_t to) {
                int64_t i = sample * c + from, last = sample * c + to;
                if (size <= SHORT)
                    for (; i + 4 <= last; i += 4) moments_of_maps<T, 4>(x() + i * size, size, mean + i, var + i);
                for (; i < last; i++) moments_of_maps<T, 1>(x() + i * size, size, mean + i, var + i);
                settle(sample, from, to);
            });
        bool done = over_pieces(threads, start, end, false, [&](int64_t sample, int64_t piece, Rows& rows) {
            double* own = partial + (sample * pieces + piece) * 3 * c;
            Shifted out = pieces > 1 ? Shifted{own, own + c, own + 2 * c}
                                     : Shifted{mean + sample * c, rows.first, var + sample * c};
            auto sum = c > SHORT_ROW && rows.row.announces ? moments_of_rows<T, FEW> : moments_of_rows<T, MANY>;
            sum(x() + offset(sample, piece), rows_of(piece), c, rows.row, out);
            if (pieces == 1) finish(sample, out);
        });
        if (!done || pieces == 1) return done;
        return spread(call, threads, end - start, (end - start) * c * pieces, [&](int64_t from, int64_t to) {
            for (int64_t sample = start + from; sample < start + to; sample++) {
                double* first = partial + sample * pieces * 3 * c;
                for (int64_t piece = 1; piece < pieces; piece++) {
                    const double *s = first + piece * 3 * c, *a = s + c, *q = s + 2 * c;
                    double count = (double)rows_of(piece);
                    for (int64_t j = 0; j < c; j++) {
                        double moved = s[j] - first[j];
                        first[c + j] += a[j] + count * moved;
                        first[2 * c + j] += q[j] + moved * (2 * a[j] + count * moved);
                    }
                }
                finish(sample, Shifted{first, first + c, first + 2 * c});
            }
        });
    }

    // From sums about a start to moments, which may stand in the same places.
    void finish(int64_t sample, Shifted sums) const {
        double *mean = rule.mean + sample * c, *var = rule.var + sample * c, count = (double)size;
        for (int64_t j = 0; j < c; j++) {
            double shift = sums.first[j] / count;
            double spread = non_negative(sums.second[j] / count - shift * shift);
            mean[j] = sums.start[j] + shift;
            var[j] = spread;
        }
        settle(sample, 0, c);
    }

    // From the population variances of a run of a sample's channels to those that are used. Where sums left the range of
    // numbers, though the moments may not, these are taken anew.
    void settle(int64_t sample, int64_t from, int64_t to) const {
#pragma clang fp reassociate(on)
        double *mean = rule.mean + sample * c, *var = rule.var + sample * c, outside = 0;
        for (int64_t j = from; j < to; j++) outside += (mean[j] + var[j]) * 0;
        if (outside != 0)
            for (int64_t j = from; j < to; j++)
                if ((mean[j] + var[j]) * 0 != 0)
                    moments_one_by_one(x() + sample * size * c + (by_rows ? j : j * size), by_rows ? c : 1, size,
                                       mean + j, var + j);
        for (int64_t j = from; j < to; j++) var[j] = rule.in_range(var[j] * rule.factor);
    }

    // y = (x - centre) * scale + shift for a run of a sample's channels. `again` takes the deviation that was kept.
    void lines(int64_t sample, int64_t part, int64_t from, int64_t to, bool again, bool keeps, A* centre, A* scale,
               A* shift, double* mixed) const {
#pragma clang fp contract(fast)
        for (int64_t at = from; at < to; at += TILE) {
            int64_t count = to - at < TILE ? to - at : TILE, skip = at - from;
            double m[TILE], v[TILE];
            rule.mix(sample, part, at, at + count, m, v);
            double* deviation = rule.deviations(sample) + at;
            A d[TILE];
            if (again || rule.tables) {
                for (int64_t j = 0; j < count; j++) d[j] = (A)deviation[j];
            } else {
                for (int64_t j = 0; j < count; j++) d[j] = 1 / __builtin_elementwise_sqrt((A)(v[j] + call.eps));
                if (keeps)
                    for (int64_t j = 0; j < count; j++) deviation[j] = d[j];
            }
            const double* own = rule.fixed ? m : rule.mean + sample * c + at;
            for (int64_t j = 0; j < count; j++) {
                double slope = d[j] * rule.weight[at + j];
                // A distance that counts for nothing is not taken from it, which might leave the range of numbers.
                A middle = d[j] == 0 ? 0 : (A)own[j];
                centre[skip + j] = middle;
                scale[skip + j] = (A)slope;
                shift[skip + j] = (A)(rule.bias[at + j] + ((double)middle - m[j]) * slope);
            }
            // Apart, since a masked store to nowhere costs some processors a hundred cycles.
            if (mixed)
                for (int64_t j = 0; j < count; j++) mixed[skip + j] = m[j];
        }
    }

    template <bool RESIDUAL, bool RELU> bool affine(int64_t threads, int64_t part, int64_t start, int64_t end) const {
        T* out = (T*)call.y;
        bool keeps = call.flags & KEEPS;
        if (!by_rows)
            return over_maps(threads, start, end, true, [&](int64_t sample, int64_t from, int64_t to) {
                A centre[MAPS], scale[MAPS], shift[MAPS];
                lines(sample, part, from, to, false, keeps && owns(sample), centre, scale, shift, nullptr);
                for (int64_t j = from; j < to; j++) {
                    int64_t at = (sample * c + j) * size, k = j - from;
                    Line<A> line = {all<A>(centre[k]), all<A>(scale[k]), all<A>(shift[k])};
                    affine_of_map<T, RESIDUAL, RELU>(x() + at, residual() + at, out + at, size, line);
                }
            });
        return over_pieces(threads, start, end, true, [&](int64_t sample, int64_t piece, Rows& rows) {
            const Row<A>& row = rows.row;
            lines(sample, part, 0, c, false, keeps && owns(sample) && piece == 0, row.centre, row.scale, row.shift,
                  nullptr);
            int64_t at = offset(sample, piece);
            affine_of_rows<T, RESIDUAL, RELU>(x() + at, residual() + at, out + at, rows_of(piece), c, row);
        });
    }

    // Whether a sample's deviations are kept by it; where all samples have the same, the first one does.
    bool owns(int64_t sample) const { return !rule.fixed || sample == 0; }

    bool affine(int64_t threads, int64_t part, int64_t start, int64_t end) const {
        bool relu = call.flags & RELU;
        if (call.residual)
            return relu ? affine<true, true>(threads, part, start, end) : affine<true, false>(threads, part, start, end);
        return relu ? affine<false, true>(threads, part, start, end) : affine<false, false>(threads, part, start, end);
    }

    template <Gate GATE> bool sums(int64_t threads, int64_t part, int64_t start, int64_t end) const {
        T* dz = (T*)call.dz;
        if (!by_rows)
            return over_maps(threads, start, end, false, [&](int64_t sample, int64_t from, int64_t to) {
                A centre[MAPS], scale[MAPS], shift[MAPS];
                double mixed[MAPS];
                lines(sample, part, from, to, true, false, centre, scale, shift, mixed);
                int64_t j = from;
                auto take = [&](auto many) {
                    constexpr int M = decltype(many)::count;
                    Line<A> line[M];
                    for (int m = 0; m < M; m++) {
                        int64_t k = j - from + m;
                        line[m] = {all<A>(centre[k]), all<A>(scale[k]), all<A>(shift[k])};
                    }
                    int64_t i = sample * c + j, at = i * size;
                    sums_of_maps<T, M, GATE>(x() + at, dy() + at, y() + at, dz ? dz + at : dz, size, line,
                                             rule.total + i, rule.product + i);
                    j += M;
                };
                if (size <= SHORT)
                    while (j + 4 <= to) take(Count<4>{});
                while (j < to) take(Count<1>{});
                normalize(sample, from, to, centre, mixed);
            });
        bool done = over_pieces(threads, start, end, false, [&](int64_t sample, int64_t piece, Rows& rows) {
            const Row<A>& row = rows.row;
            lines(sample, part, 0, c, true, false, row.centre, row.scale, row.shift, rows.mixed);
            double* own = partial + (sample * pieces + piece) * 3 * c;
            double* total = pieces > 1 ? own : rule.total + sample * c;
            double* product = pieces > 1 ? own + c : rule.product + sample * c;
            int64_t at = offset(sample, piece);
            auto sum = c > SHORT_ROW && rows.row.announces ? sums_of_rows<T, GATE, FEW> : sums_of_rows<T, GATE, MANY>;
            sum(x() + at, dy() + at, y() + at, dz ? dz + at : dz, rows_of(piece), c, row, total, product);
            if (pieces == 1) normalize(sample, 0, c, row.centre, rows.mixed);
        });
        if (!done || pieces == 1) return done;
        return spread(call, threads, end - start, (end - start) * c * pieces, [&](int64_t from, int64_t to) {
            for (int64_t sample = start + from; sample < start + to; sample++) {
                double *total = rule.total + sample * c, *product = rule.product + sample * c;
                const double* first = partial + sample * pieces * 3 * c;
                for (int64_t j = 0; j < c; j++) total[j] = first[j], product[j] = first[c + j];
                for (int64_t piece = 1; piece < pieces; piece++) {
                    const double* next = first + piece * 3 * c;
                    for (int64_t j = 0; j < c; j++) total[j] += next[j], product[j] += next[c + j];
                }
                for (int64_t j = 0; j < c; j += MAPS) {
                    int64_t to = j + MAPS < c ? j + MAPS : c;
                    A centre[MAPS], scale[MAPS], shift[MAPS];
                    double mixed[MAPS];
                    lines(sample, part, j, to, true, false, centre, scale, shift, mixed);
                    normalize(sample, j, to, centre, mixed);
                }
            }
        });
    }

    // Makes sums of dz * (x - centre) ones of dz * (x - the mixed mean).
    void normalize(int64_t sample, int64_t from, int64_t to, const A* centre, const double* mixed) const {
        double *product = rule.product + sample * c, *total = rule.total + sample * c;
        const double* deviation = rule.deviations(sample);
        for (int64_t j = from; j < to; j++) {
            double about = product[j] + ((double)centre[j - from] - mixed[j - from]) * total[j];
            product[j] = (deviation[j] == 0 ? total[j] : about) * deviation[j];
        }
    }

    template <Gate GATE, bool THROUGH>
    bool combine(const T* dz, int64_t threads, int64_t part, int64_t start, int64_t end) const {
        T* dx = (T*)call.dx;
        if (!by_rows)
            return over_maps(threads, start, end, true, [&](int64_t sample, int64_t from, int64_t to) {
                A centre[MAPS], scale[MAPS], shift[MAPS], slope[MAPS] = {}, constant[MAPS] = {};
                slopes<GATE, THROUGH>(sample, part, from, to, centre, scale, shift, slope, constant);
                for (int64_t j = from; j < to; j++) {
                    int64_t at = (sample * c + j) * size, k = j - from;
                    Line<A> line = {all<A>(centre[k]), all<A>(scale[k]), all<A>(shift[k])};
                    combine_of_map<T, GATE, THROUGH>(x() + at, dz + at, y() + at, dx + at, size, line, slope[k],
                                                     constant[k]);
                }
            });
        return over_pieces(threads, start, end, true, [&](int64_t sample, int64_t piece, Rows& rows) {
            const Row<A>& row = rows.row;
            slopes<GATE, THROUGH>(sample, part, 0, c, row.centre, row.scale, row.shift, row.slope, row.constant);
            int64_t at = offset(sample, piece);
            combine_of_rows<T, GATE, THROUGH>(x() + at, dz + at, y() + at, dx + at, rows_of(piece), c, row);
        });
    }

    // dx = dz * scale + (x - centre) * slope + constant, and the line that decides on ReLU where it is asked again.
    template <Gate GATE, bool THROUGH>
    void slopes(int64_t sample, int64_t part, int64_t from, int64_t to, A* centre, A* scale, A* shift, A* slope,
                A* constant) const {
        if (GATE == AGAIN) {
            lines(sample, part, from, to, true, false, centre, scale, shift, nullptr);
        } else {
            const double *deviation = rule.deviations(sample), *mean = rule.mean + sample * c;
            for (int64_t j = from; j < to; j++) {
                centre[j - from] = rule.fixed ? 0 : (A)mean[j];
                scale[j - from] = (A)((double)(A)deviation[j] * rule.weight[j]);
            }
        }
        if (!THROUGH) return;
        for (int64_t at = from; at < to; at += TILE) {
            int64_t count = to - at < TILE ? to - at : TILE, skip = at - from;
            double of_mean[TILE], of_var[TILE];
            const double* mean = rule.mean + sample * c + at;
            if (rule.tables) {
                for (int64_t j = 0; j < count; j++) {
                    of_mean[j] = rule.total[sample * c + at + j];
                    of_var[j] = rule.product[sample * c + at + j];
                }
            } else {
                rule.through(sample, part, at, at + count, of_mean, of_var);
            }
            for (int64_t j = 0; j < count; j++) {
                if (GATE != AGAIN && of_var[j] == 0) centre[skip + j] = 0;
                slope[skip + j] = (A)of_var[j];
                constant[skip + j] = (A)(of_mean[j] + ((double)centre[skip + j] - mean[j]) * of_var[j]);
            }
        }
    }

    // Calls body(threads, part, start, end) for the samples that share statistics, several at once where there are
    // enough of these for all threads.
    template <class F> bool over_units(F body) const {
        int64_t count = rule.coupled ? call.parts : n;
        auto unit = [&](int64_t threads, int64_t i) {
            return rule.coupled ? body(threads, i, rule.start_of(i), call.ends[i]) : body(threads, 0, i, i + 1);
        };
        bool failed = false;
        if (call.threads > 1 && count < 2 * call.threads) {
            for (int64_t i = 0; i < count && !failed; i++) failed = !unit(call.threads, i);
            return !failed;
        }
        bool done = spread(call, call.threads, count, n * c * size, [&](int64_t from, int64_t to) {
            for (int64_t i = from; i < to; i++)
                if (!unit(1, i)) __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
        });
        return done && !failed;
    }

    bool forward() const {
        // The first sample's deviations are all samples', and are made before any other needs them.
        if (rule.fixed) return affine(call.threads, 0, 0, n);
        return over_units([&](int64_t threads, int64_t part, int64_t start, int64_t end) {
            return moments(threads, start, end) && derive(threads, part, start, end) &&
                   affine(threads, part, start, end);
        });
    }

    bool derive(int64_t threads, int64_t part, int64_t start, int64_t end) const {
        int64_t tiles = rule.coupled ? Rule::tiles(call) : 0, samples = end - start;
        return spread(call, threads, samples + tiles, samples * c * 8, [&](int64_t from, int64_t to) {
            for (int64_t i = from; i < to; i++) {
                if (i < samples) rule.derive_sample(start + i);
                else channels_of(i - samples, [&](int64_t a, int64_t b) { rule.derive_channels(part, a, b); });
            }
        });
    }

    template <class F> void channels_of(int64_t tile, F body) const {
        int64_t from = tile * TILE;
        body(from, from + TILE < c ? from + TILE : c);
    }

    bool pull(int64_t threads, int64_t part, int64_t start, int64_t end) const {
        int64_t tiles = rule.asks_channels ? Rule::tiles(call) : 0, samples = rule.asks_samples ? end - start : 0;
        return spread(call, threads, samples + tiles, (end - start) * c * 8, [&](int64_t from, int64_t to) {
            for (int64_t i = from; i < to; i++) {
                if (i < samples) rule.pull_sample(start + i);
                else rule.pull_channels(part, i - samples);
            }
        });
    }

    template <Gate GATE> bool backward() const {
        bool gate_is_past = GATE == OUTPUT && call.dz;
        auto gradient_of = [&](int64_t threads, int64_t part, int64_t start, int64_t end) {
            if (!(call.flags & NEEDS_INPUT)) return true;
            const T* dz = gate_is_past ? (const T*)call.dz : dy();
            if (rule.fixed)
                return gate_is_past ? combine<OPEN, false>(dz, threads, part, start, end)
                                    : combine<GATE, false>(dz, threads, part, start, end);
            return gate_is_past ? combine<OPEN, true>(dz, threads, part, start, end)
                                : combine<GATE, true>(dz, threads, part, start, end);
        };
        bool done;
        // Running statistics in the mixture: sums over the whole batch are asked for the importance alone.
        if (!rule.coupled && rule.asks_channels) {
            done = sums<GATE>(call.threads, 0, 0, n) && pull(call.threads, 0, 0, n) &&
                   gradient_of(call.threads, 0, 0, n);
        } else {
            done = over_units([&](int64_t threads, int64_t part, int64_t start, int64_t end) {
                return sums<GATE>(threads, part, start, end) && pull(threads, part, start, end) &&
                       gradient_of(threads, part, start, end);
            });
        }
        if (done) rule.finish();
        return done;
    }
};

template <class T> INLINE void move(T* at, double towards, double share) {
    double before = (double)Element<T>::one(at);
    Element<T>::put(at, (Computed<T>)(before + (towards - before) * share));
}

// The mean over the parts of the batch, and what of it goes into running statistics.
template <class A> void report(const Call& call, const Rule& rule) {
    for (int64_t i = 0; i < rule.k; i++) {
        if (call.kinds[i] != BATCH) continue;
        double share = call.share;
        if (call.counter) {
            int64_t seen = ++*call.counter;
            if (share < 0) share = 1 / (double)seen;
        }
        for (int64_t j = 0; j < rule.c; j++) {
            double mean = 0, var = 0;
            for (int64_t part = 0; part < call.parts; part++) {
                double count = (double)((call.ends[part] - rule.start_of(part)) * rule.size);
                double unbiased = call.flags & UNBIASED ? 1 : count / at_least_one(count - 1);
                mean += rule.mean_of[i][part * rule.c + j] / (double)call.parts;
                var += rule.var_of[i][part * rule.c + j] * unbiased / (double)call.parts;
            }
            if (call.batch_mean) ((A*)call.batch_mean)[j] = (A)mean, ((A*)call.batch_var)[j] = (A)var;
            if (call.moved_mean)
                with_dtype(call.running_dtype, [&](auto* type) {
                    move((decltype(type))call.moved_mean + j, mean, share);
                    move((decltype(type))call.moved_var + j, var, share);
                });
        }
    }
}

template <class T> Status forward(const Call& call) {
    Rule rule(call, false);
    Memory partial(8 * Passes<T>::partials(call));
    if (!rule.ready || !partial.held) return NO_MEMORY;
    if (!Passes<T>(call, rule, (double*)partial.held).forward()) return NO_THREADS;
    report<Computed<T>>(call, rule);
    return DONE;
}

template <class T> Status backward(const Call& call) {
    Rule rule(call, true);
    Memory partial(8 * Passes<T>::partials(call));
    if (!rule.ready || !partial.held) return NO_MEMORY;
    Passes<T> passes(call, rule, (double*)partial.held);
    bool done = !(call.flags & RELU) ? passes.template backward<OPEN>()
                : call.y             ? passes.template backward<OUTPUT>()
                                     : passes.template backward<AGAIN>();
    return done ? DONE : NO_THREADS;
}

#ifdef _WIN32
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Calls f with the dtype of the call's elements, and returns what it does.
template <class F> INLINE int64_t by_dtype(const Call& call, F f) {
    Status status = DONE;
    with_dtype(call.dtype, [&](auto* type) { status = f(type); });
    return status;
}

EXPORT int64_t switchnorm_forward(const Call* call) {
    return by_dtype(*call, [&](auto* type) { return forward<__remove_reference_t(decltype(*type))>(*call); });
}

EXPORT int64_t switchnorm_backward(const Call* call) {
    return by_dtype(*call, [&](auto* type) { return backward<__remove_reference_t(decltype(*type))>(*call); });
}

// Single passes, for rules between which something else happens. `saved` holds tables (5, N, C): the mean, the variance,
// a scale, and two tables of sums, or the slope's and the constant's.
enum Pass : int64_t { MOMENTS, AFFINE, SUMS, COMBINE };

template <class T> Status pass(const Call& call, int64_t which) {
    Rule rule(call, false);
    Memory partial(8 * Passes<T>::partials(call));
    if (!rule.ready || !partial.held) return NO_MEMORY;
    rule.total = rule.deviation + rule.n * rule.c, rule.product = rule.total + rule.n * rule.c;
    rule.tables = true;
    Passes<T> passes(call, rule, (double*)partial.held);
    int64_t threads = call.threads, n = call.samples;
    bool done = which == MOMENTS  ? passes.moments(threads, 0, n)
                : which == AFFINE ? passes.affine(threads, 0, 0, n)
                : which == SUMS   ? passes.template sums<OPEN>(threads, 0, 0, n)
                                  : passes.template combine<OPEN, true>((const T*)call.dy, threads, 0, 0, n);
    return done ? DONE : NO_THREADS;
}

EXPORT int64_t switchnorm_pass(const Call* call, int64_t which) {
    return by_dtype(*call, [&](auto* type) { return pass<__remove_reference_t(decltype(*type))>(*call, which); });
}
