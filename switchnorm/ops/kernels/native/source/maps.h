// Passes over contiguous maps: each is a run of `size` elements.
#pragma once
#include "numbers.h"

// Elements of a block that is summed in the arithmetic of elements, before blocks are added up in double. It stays in the
// first cache, so that reading a part of it a second time costs little.
const int64_t BLOCK = 4096;

// What decides on ReLU's gradient: nothing, the affine map done again, or the output.
enum Gate { OPEN, AGAIN, OUTPUT };

// Calls f(offset, lanes that count from) for every vector of a run; the last one overlaps the one before it.
template <int W, class F> INLINE void over_vectors(int64_t count, F f) {
    int64_t i = 0;
    for (; i + W <= count; i += W) f(i, 0);
    if (i < count) f(count - W, (int)(i - (count - W)));
}

// Sums of M adjacent runs of `length` elements, `apart` from each other, of what `term` makes of a vector; the sums of
// `terms` quantities come out as sums[quantity * M + run].
template <class T, int M, int Q, class F>
INLINE void sums_of_runs(int64_t length, Computed<T>* sums, F term) {
    typedef Computed<T> A;
    typedef Vector<A> V;
    const int W = LANES<A>;
    V total[Q * M];
    for (int m = 0; m < M; m++) {
        V part[4][Q] = {};
        int64_t i = 0;
        if (length >= W) {
            for (; i + 4 * W <= length; i += 4 * W)
                for (int u = 0; u < 4; u++) term(m, i + u * W, part[u], 0, W);
            for (; i + W <= length; i += W) term(m, i, part[0], 0, W);
            if (i < length) term(m, length - W, part[1], (int)(i - (length - W)), W);
        } else {
            term(m, 0, part[0], 0, (int)length);
        }
        for (int q = 0; q < Q; q++) total[q * M + m] = (part[0][q] + part[1][q]) + (part[2][q] + part[3][q]);
    }
    if constexpr (M == 4) {
        for (int q = 0; q < Q; q++) four_sums(total + q * M, sums + q * M);
    } else {
        for (int q = 0; q < Q * M; q++) sums[q] = sum_of(total[q]);
    }
}

template <class T> INLINE Vector<Computed<T>> load_up_to(const T* at, int count) {
    return count == LANES<Computed<T>> ? Element<T>::load(at) : load_some(at, count);
}

// The mean and the population variance of each of M maps. Sums over a block are of differences from the mean of its first
// quarter, so that no offset costs digits, and equal elements have a variance of 0.
template <class T, int M> void moments_of_maps(const T* x, int64_t size, double* mean, double* var) {
    typedef Computed<T> A;
    typedef Vector<A> V;
    double start[M], first[M], second[M];
    for (int64_t at = 0; at < size; at += BLOCK) {
        int64_t length = size - at < BLOCK ? size - at : BLOCK;
        A origin[M], sums[2 * M], centre[M];
        for (int m = 0; m < M; m++) origin[m] = Element<T>::one(x + m * size + at);
        int64_t few = length < 256 ? length : length / 4;
        sums_of_runs<T, M, 1>(few, sums, [&](int m, int64_t i, V* part, int from, int count) INLINE_LAMBDA {
            V d = load_up_to(x + m * size + at + i, count) - all<A>(origin[m]);
            part[0] += lanes<A>(d, from, count);
        });
        for (int m = 0; m < M; m++) centre[m] = origin[m] + sums[m] / (A)few;
        sums_of_runs<T, M, 2>(length, sums, [&](int m, int64_t i, V* part, int from, int count) INLINE_LAMBDA {
            // The next block, whose quarter is read first.
            if (i % (int64_t)(64 / sizeof(T)) == 0) __builtin_prefetch(x + m * size + at + i + M * length);
            V d = lanes<A>(load_up_to(x + m * size + at + i, count) - all<A>(centre[m]), from, count);
            part[0] += d;
            part[1] = fused(d, d, part[1]);
        });
        for (int m = 0; m < M; m++) {
            if (at == 0) start[m] = centre[m], first[m] = second[m] = 0;
            double moved = (double)centre[m] - start[m], s = sums[m];
            first[m] += s + (double)length * moved;
            second[m] += (double)sums[M + m] + moved * (2 * s + (double)length * moved);
        }
    }
    for (int m = 0; m < M; m++) {
        double shift = first[m] / (double)size, v = second[m] / (double)size - shift * shift;
        mean[m] = start[m] + shift;
        var[m] = v < 0 ? 0 : v;
    }
}

// The same of a map whose elements lie `apart`, by Welford's recurrence, in which no number is larger than what is asked
// for. A map with elements that are no numbers keeps the moments that it has, which are none either.
template <class T> void moments_one_by_one(const T* x, int64_t apart, int64_t size, double* mean, double* var) {
    double middle = 0, squares = 0;
    for (int64_t i = 0; i < size; i++) {
        double value = (double)Element<T>::one(x + i * apart), before = value - middle;
        if (value * 0 != 0) return;
        middle += before / (double)(i + 1);
        squares += before * (value - middle);
    }
    *mean = middle, *var = squares / (double)size;
}

// One map's constants: y = (x - centre) * scale + shift.
template <class A> struct Line {
    Vector<A> centre, scale, shift;
    INLINE Vector<A> operator()(Vector<A> x) const { return fused(x - centre, scale, shift); }
};

// 0 where v is below, and NaN where it is.
template <class A> INLINE Vector<A> positive(Vector<A> v) { return select(v < 0, Vector<A>{}, v); }

template <class T, bool RESIDUAL, bool RELU>
INLINE void affine_of_map(const T* x, const T* residual, T* y, int64_t size, Line<Computed<T>> line) {
    typedef Computed<T> A;
    typedef Vector<A> V;
    const int W = LANES<A>;
    auto value = [&](int64_t i, int count) INLINE_LAMBDA {
        V v = line(load_up_to(x + i, count));
        if (RESIDUAL) v += load_up_to(residual + i, count);
        return RELU ? positive<A>(v) : v;
    };
    if (size < W) return store_some(y, value(0, (int)size), size);
    over_vectors<W>(size, [&](int64_t i, int) INLINE_LAMBDA { Element<T>::store(y + i, value(i, W)); });
}

// dy where ReLU let the value pass, also where that is NaN.
template <class T, Gate GATE>
INLINE Vector<Computed<T>> gated(Vector<Computed<T>> dy, Vector<Computed<T>> x, const T* y, int count,
                                 const Line<Computed<T>>& line) {
    typedef Vector<Computed<T>> V;
    if (GATE == OPEN) return dy;
    V value = GATE == AGAIN ? line(x) : load_up_to(y, count);
    return select(value <= 0, V{}, dy);
}

// Of M maps, the sums of dz and of dz * (x - centre), where dz is dy behind ReLU's gate, and dz itself where wanted.
template <class T, int M, Gate GATE>
void sums_of_maps(const T* x, const T* dy, const T* y, T* dz, int64_t size, const Line<Computed<T>>* lines,
                  double* total, double* product) {
    typedef Computed<T> A;
    typedef Vector<A> V;
    for (int m = 0; m < M; m++) total[m] = product[m] = 0;
    for (int64_t at = 0; at < size; at += BLOCK) {
        int64_t length = size - at < BLOCK ? size - at : BLOCK;
        A sums[2 * M];
        sums_of_runs<T, M, 2>(length, sums, [&](int m, int64_t i, V* part, int from, int count) INLINE_LAMBDA {
            int64_t here = m * size + at + i;
            V v = load_up_to(x + here, count);
            V d = gated<T, GATE>(load_up_to(dy + here, count), v, y + here, count, lines[m]);
            if (GATE == OUTPUT && dz) {
                if (count < LANES<A>) store_some(dz + here, d, count);
                else Element<T>::store(dz + here, d);
            }
            V distance = lanes<A>(v - lines[m].centre, from, count);
            part[0] += lanes<A>(d, from, count);
            part[1] = fused(d, distance, part[1]);
        });
        for (int m = 0; m < M; m++) total[m] += sums[m], product[m] += sums[M + m];
    }
}

// dx = dz * a + (x - centre) * b + c.
template <class T, Gate GATE, bool THROUGH>
INLINE void combine_of_map(const T* x, const T* dy, const T* y, T* dx, int64_t size, const Line<Computed<T>>& line,
                           Computed<T> b, Computed<T> c) {
    typedef Computed<T> A;
    typedef Vector<A> V;
    const int W = LANES<A>;
    V slope = all<A>(b), constant = all<A>(c);
    auto value = [&](int64_t i, int count) INLINE_LAMBDA {
        V v = THROUGH || GATE == AGAIN ? load_up_to(x + i, count) : V{};
        V d = gated<T, GATE>(load_up_to(dy + i, count), v, y + i, count, line);
        return THROUGH ? fused(d, line.scale, fused(v - line.centre, slope, constant)) : d * line.scale;
    };
    if (size < W) return store_some(dx, value(0, (int)size), size);
    over_vectors<W>(size, [&](int64_t i, int) INLINE_LAMBDA { Element<T>::store(dx + i, value(i, W)); });
}
