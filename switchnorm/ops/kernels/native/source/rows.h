// Passes over channels-last maps: rows of `channels` elements, one row for each place of a map.
#pragma once
#include "maps.h"

// Rows that are summed in the arithmetic of elements, before they are added up in double.
const int64_t ROWS = 64;
// Rows that are summed side by side, so that sums are loaded and stored once for all of them. Processors foresee one run
// of addresses and not eight, so that rows which are longer than a few cache lines are taken two at a time.
const int FEW = 2, MANY = 8;
const int64_t SHORT_ROW = 32;
// Bytes by which reading is announced to the memory.
const int64_t AHEAD = 8192;

// Calls f(channel, lanes that count from, lanes) for every vector of a row. Rows shorter than a vector are one.
template <class A, class F> INLINE void over_channels(int64_t channels, F f) {
    const int W = LANES<A>;
    if (channels < W) return f(0, 0, (int)channels);
    over_vectors<W>(channels, [&](int64_t c, int from) INLINE_LAMBDA { f(c, from, W); });
}

// Sums of one piece of a sample's rows, of x and its square about a start of each channel.
struct Shifted {
    double *start, *first, *second;
};

// Tables for one row of channels, padded to whole vectors.
template <class A> struct Row {
    A *centre, *scale, *shift, *slope, *constant, *first, *second;
    bool announces;  // reading to the memory; where all is in a cache it is not worth it
};

// Announces as much of each tensor as R rows of one vector are, in the order of addresses.
template <int R, class T, class... Ts> INLINE void announce(bool announces, int64_t c, const T* tensor, const Ts*... more) {
    const int64_t LINE = 64 / sizeof(T);
    if (!announces || c % LINE) return;
    for (int r = 0; r < R; r++) __builtin_prefetch((const char*)(tensor + R * c + r * LINE) + AHEAD);
    if constexpr (sizeof...(more) > 0) announce<R>(announces, c, more...);
}

// Whether sums are new, and whether what they are about is, too.
enum Sums { START, FRESH, MORE };

template <class A, Sums SUMS> INLINE void sum_up(A* at, Vector<A> v, int from, int count) {
    write(at, SUMS == MORE ? read<Vector<A>>(at) + lanes<A>(v, from, count) : v);
}

template <class T, int R, Sums SUMS>
INLINE void moments_of_few(const T* x, int64_t channels, Row<Computed<T>> row) {
    typedef Computed<T> A;
    typedef Vector<A> V;
    over_channels<A>(channels, [&](int64_t c, int from, int count) INLINE_LAMBDA {
        announce<R>(row.announces, c, x);
        V value[R], s{}, q{};
        for (int r = 0; r < R; r++) value[r] = load_up_to(x + r * channels + c, count);
        V centre;
        if (SUMS == START) {
            V sum{};
            for (int r = 1; r < R; r++) sum += value[r] - value[0];
            centre = value[0] + sum * all<A>((A)1 / R);
            write(row.centre + c, centre);
        } else {
            centre = read<V>(row.centre + c);
        }
        for (int r = 0; r < R; r++) {
            V d = value[r] - centre;
            s += d;
            q = fused(d, d, q);
        }
        sum_up<A, SUMS>(row.first + c, s, from, count);
        sum_up<A, SUMS>(row.second + c, q, from, count);
    });
}

// Adds sums of n rows about a centre to what is known, and takes their mean for the next centre.
template <class A>
void join(int64_t channels, double n, bool first_of_all, A* __restrict centre, const A* __restrict sums,
          const A* __restrict squares, double* __restrict start, double* __restrict first, double* __restrict second) {
    A share = (A)(1 / n);
    if (first_of_all) {
        for (int64_t c = 0; c < channels; c++) start[c] = centre[c], first[c] = sums[c], second[c] = squares[c];
    } else {
        for (int64_t c = 0; c < channels; c++) {
            double moved = (double)centre[c] - start[c], s = sums[c];
            first[c] += s + n * moved;
            second[c] += squares[c] + moved * (2 * s + n * moved);
        }
    }
    for (int64_t c = 0; c < channels; c++) centre[c] += sums[c] * share;
}

// The first sums are about the mean of a few rows, later ones about the mean of those before.
template <class T, int R>
void moments_of_rows(const T* x, int64_t rows, int64_t channels, Row<Computed<T>> row, Shifted out) {
    typedef Computed<T> A;
    for (int64_t at = 0; at < rows; at += ROWS) {
        int64_t length = rows - at < ROWS ? rows - at : ROWS, r = 0;
        auto take = [&](auto many, auto sums) INLINE_LAMBDA {
            moments_of_few<T, many.count, (Sums)sums.count>(x + (at + r) * channels, channels, row);
            r += many.count;
        };
        if (at == 0 && length >= MANY) take(Count<MANY>{}, Count<START>{});
        else if (at == 0) take(Count<1>{}, Count<START>{});
        else if (length >= R) take(Count<R>{}, Count<FRESH>{});
        else take(Count<1>{}, Count<FRESH>{});
        while (r + R <= length) take(Count<R>{}, Count<MORE>{});
        while (r < length) take(Count<1>{}, Count<MORE>{});
        join<A>(channels, (double)length, at == 0, row.centre, row.first, row.second, out.start, out.first, out.second);
    }
}

template <class T> INLINE Line<Computed<T>> line_at(Row<Computed<T>> row, int64_t c) {
    typedef Vector<Computed<T>> V;
    return {read<V>(row.centre + c), read<V>(row.scale + c), read<V>(row.shift + c)};
}

template <class T, bool RESIDUAL, bool RELU>
void affine_of_rows(const T* x, const T* residual, T* y, int64_t rows, int64_t channels, Row<Computed<T>> row) {
    typedef Computed<T> A;
    typedef Vector<A> V;
    for (int64_t at = 0; at < rows * channels; at += channels)
        over_channels<A>(channels, [&](int64_t c, int, int count) INLINE_LAMBDA {
            int64_t i = at + c;
            V v = line_at<T>(row, c)(load_up_to(x + i, count));
            if (RESIDUAL) v += load_up_to(residual + i, count);
            if (RELU) v = positive<A>(v);
            if (count < LANES<A>) store_some(y + i, v, count);
            else Element<T>::store(y + i, v);
        });
}

template <class T, Gate GATE, int R, Sums SUMS>
INLINE void sums_of_few(const T* x, const T* dy, const T* y, T* dz, int64_t channels, Row<Computed<T>> row) {
    typedef Computed<T> A;
    typedef Vector<A> V;
    over_channels<A>(channels, [&](int64_t c, int from, int count) INLINE_LAMBDA {
        announce<R>(row.announces, c, x, dy);
        V centre = read<V>(row.centre + c), s{}, p{};
        Line<A> line = {};
        if (GATE == AGAIN) line = line_at<T>(row, c);
        for (int r = 0; r < R; r++) {
            int64_t i = r * channels + c;
            V v = load_up_to(x + i, count);
            V d = gated<T, GATE>(load_up_to(dy + i, count), v, y + i, count, line);
            if (GATE == OUTPUT && dz) {
                if (count < LANES<A>) store_some(dz + i, d, count);
                else Element<T>::store(dz + i, d);
            }
            s += d;
            p = fused(d, v - centre, p);
        }
        sum_up<A, SUMS>(row.first + c, s, from, count);
        sum_up<A, SUMS>(row.second + c, p, from, count);
    });
}

// Of a piece of a sample's rows, for each channel the sums of dz and of dz * (x - centre).
template <class T, Gate GATE, int R>
void sums_of_rows(const T* x, const T* dy, const T* y, T* dz, int64_t rows, int64_t channels, Row<Computed<T>> row,
                  double* total, double* product) {
    for (int64_t at = 0; at < rows; at += ROWS) {
        int64_t length = rows - at < ROWS ? rows - at : ROWS, r = 0;
        auto take = [&](auto many, auto sums) INLINE_LAMBDA {
            int64_t i = (at + r) * channels;
            sums_of_few<T, GATE, many.count, (Sums)sums.count>(x + i, dy + i, y + i, dz ? dz + i : dz, channels, row);
            r += many.count;
        };
        if (length >= R) take(Count<R>{}, Count<FRESH>{});
        else take(Count<1>{}, Count<FRESH>{});
        while (r + R <= length) take(Count<R>{}, Count<MORE>{});
        while (r < length) take(Count<1>{}, Count<MORE>{});
        if (at == 0) {
            for (int64_t c = 0; c < channels; c++) total[c] = row.first[c], product[c] = row.second[c];
        } else {
            for (int64_t c = 0; c < channels; c++) total[c] += row.first[c], product[c] += row.second[c];
        }
    }
}

template <class T, Gate GATE, bool THROUGH>
void combine_of_rows(const T* x, const T* dy, const T* y, T* dx, int64_t rows, int64_t channels, Row<Computed<T>> row) {
    typedef Computed<T> A;
    typedef Vector<A> V;
    for (int64_t at = 0; at < rows * channels; at += channels)
        over_channels<A>(channels, [&](int64_t c, int, int count) INLINE_LAMBDA {
            int64_t i = at + c;
            Line<A> line = line_at<T>(row, c);
            V slope = read<V>(row.slope + c), constant = read<V>(row.constant + c);
            V v = THROUGH || GATE == AGAIN ? load_up_to(x + i, count) : V{};
            V d = gated<T, GATE>(load_up_to(dy + i, count), v, y + i, count, line);
            V found = THROUGH ? fused(d, line.scale, fused(v - line.centre, slope, constant)) : d * line.scale;
            if (count < LANES<A>) store_some(dx + i, found, count);
            else Element<T>::store(dx + i, found);
        });
}
