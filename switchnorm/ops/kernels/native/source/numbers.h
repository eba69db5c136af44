// Numbers as they lie in memory, and as they are computed with: vectors of 32 bytes, whatever the processor's own width.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

typedef float Floats __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef int64_t Longs __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));
typedef uint16_t Halfwords __attribute__((vector_size(16)));
typedef _Float16 Halves __attribute__((vector_size(16)));
typedef float Quad __attribute__((vector_size(16)));

// A number that a template knows, handed to a lambda.
template <int N> struct Count {
    static constexpr int count = N;
};

struct Brain {
    uint16_t bits;
};

// What is computed with: float for all that is narrower, double for itself.
template <class A> struct Arithmetic;

template <> struct Arithmetic<float> {
    typedef Floats Vector;
    typedef Ints Mask;
    static const int lanes = 8;
};

template <> struct Arithmetic<double> {
    typedef Doubles Vector;
    typedef Longs Mask;
    static const int lanes = 4;
};

template <class A> using Vector = typename Arithmetic<A>::Vector;
template <class A> constexpr int LANES = Arithmetic<A>::lanes;

template <class V> INLINE V read(const void* at) {
    V v;
    __builtin_memcpy(&v, at, sizeof v);
    return v;
}

template <class V> INLINE void write(void* at, V v) { __builtin_memcpy(at, &v, sizeof v); }

template <class A> INLINE Vector<A> all(A value) { return value - Vector<A>{}; }

// The lanes from `first` up to `end`, and 0 in the others.
template <class A> INLINE Vector<A> lanes(Vector<A> v, int first, int end) {
    typedef typename Arithmetic<A>::Mask Mask;
    if (first == 0 && end == LANES<A>) return v;
    Mask lane;
    for (int i = 0; i < LANES<A>; i++) lane[i] = i;
    return (Vector<A>)((Mask)v & (lane >= first) & (lane < end));
}

// a * b + c; with one rounding where the processor has such an instruction, which is a slow function where it has not.
template <class V> INLINE V fused(V a, V b, V c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_elementwise_fma(a, b, c);
#else
    return a * b + c;
#endif
}

// a where the condition holds, lane by lane.
template <class V, class M> INLINE V select(M condition, V a, V b) { return (V)(((M)a & condition) | ((M)b & ~condition)); }

// An element in memory: how it is read, and written with one rounding to the nearest.
template <class T> struct Element;

template <> struct Element<float> {
    typedef float A;
    static INLINE Floats load(const float* at) { return read<Floats>(at); }
    static INLINE void store(float* at, Floats v) { write(at, v); }
    static INLINE float one(const float* at) { return *at; }
    static INLINE void put(float* at, float v) { *at = v; }
};

template <> struct Element<double> {
    typedef double A;
    static INLINE Doubles load(const double* at) { return read<Doubles>(at); }
    static INLINE void store(double* at, Doubles v) { write(at, v); }
    static INLINE double one(const double* at) { return *at; }
    static INLINE void put(double* at, double v) { *at = v; }
};

template <> struct Element<_Float16> {
    typedef float A;
    static INLINE Floats load(const _Float16* at) { return __builtin_convertvector(read<Halves>(at), Floats); }
    static INLINE void store(_Float16* at, Floats v) { write(at, __builtin_convertvector(v, Halves)); }
    static INLINE float one(const _Float16* at) { return (float)*at; }
    static INLINE void put(_Float16* at, float v) { *at = (_Float16)v; }
};

template <> struct Element<Brain> {
    typedef float A;
    static INLINE Floats load(const Brain* at) {
        return (Floats)(__builtin_convertvector(read<Halfwords>(at), Words) << 16);
    }
    static INLINE void store(Brain* at, Floats v) {
        Words bits = (Words)v;
        Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        // Adding may carry a NaN's bits away.
        Words kept = (Words)select((Ints)(v != v), (Floats)(Words{} + 0x7fc0u), (Floats)rounded);
        write(at, __builtin_convertvector(kept, Halfwords));
    }
    static INLINE float one(const Brain* at) {
        uint32_t bits = (uint32_t)at->bits << 16;
        return read<float>(&bits);
    }
    static INLINE void put(Brain* at, float v) {
        uint32_t bits = read<uint32_t>(&v);
        at->bits = v != v ? 0x7fc0 : (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
};

template <class T> using Computed = typename Element<T>::A;

// The first `count` elements, fewer than a vector has, and 0 in the other lanes.
template <class T> INLINE Vector<Computed<T>> load_some(const T* at, int64_t count) {
    Computed<T> held[LANES<Computed<T>>] = {};
    for (int64_t i = 0; i < count; i++) held[i] = Element<T>::one(at + i);
    return read<Vector<Computed<T>>>(held);
}

template <class T> INLINE void store_some(T* at, Vector<Computed<T>> v, int64_t count) {
    Computed<T> held[LANES<Computed<T>>];
    write(held, v);
    for (int64_t i = 0; i < count; i++) Element<T>::put(at + i, held[i]);
}

INLINE float sum_of(Floats v) {
    Quad half = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
    return (half[0] + half[2]) + (half[1] + half[3]);
}

INLINE double sum_of(Doubles v) { return (v[0] + v[2]) + (v[1] + v[3]); }

// The sums of four vectors at once: a fraction of the work of four sums.
INLINE void four_sums(const Floats* v, float* out) {
    Quad h[4];
    for (int i = 0; i < 4; i++)
        h[i] = __builtin_shufflevector(v[i], v[i], 0, 1, 2, 3) + __builtin_shufflevector(v[i], v[i], 4, 5, 6, 7);
    Quad ab = __builtin_shufflevector(h[0], h[1], 0, 1, 4, 5) + __builtin_shufflevector(h[0], h[1], 2, 3, 6, 7);
    Quad cd = __builtin_shufflevector(h[2], h[3], 0, 1, 4, 5) + __builtin_shufflevector(h[2], h[3], 2, 3, 6, 7);
    write(out, __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7));
}

INLINE void four_sums(const Doubles* v, double* out) {
    Doubles ab = __builtin_shufflevector(v[0], v[1], 0, 1, 4, 5) + __builtin_shufflevector(v[0], v[1], 2, 3, 6, 7);
    Doubles cd = __builtin_shufflevector(v[2], v[3], 0, 1, 4, 5) + __builtin_shufflevector(v[2], v[3], 2, 3, 6, 7);
    write(out, __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7));
}
