// What Python asks for, and how work is spread over threads.
#pragma once
#include <stdlib.h>

#include "numbers.h"

extern "C" {
typedef void (*Task)(int64_t begin, int64_t end, void* context);
// torch's own pool, as `torch_parallel_for` of its stable interface; whatever it returns but 0 is an error.
typedef int32_t (*ParallelFor)(int64_t begin, int64_t end, int64_t grain, Task task, void* context);
// The pool beneath it, for a torch without that interface: GNU OpenMP's, in which every thread of a team calls `work`.
typedef void (*Team)(void (*work)(void* context), void* context, unsigned threads, unsigned flags);
}

enum Kind : int64_t { INSTANCE = -1, BATCH = 0, RUNNING = -2 };  // above 0: so many groups of channels

enum Flag : int64_t {
    RELU = 1,
    FLAT = 2,               // variances of a flat input are those over entries of the tables
    UNBIASED = 4,           // SN's published variances
    LEARNS = 8,             // importance has a gradient, so that a statistic of importance 0 counts
    KEEPS = 16,             // a backward pass follows
    NEEDS_INPUT = 32,       // backward: the gradient of x is wanted
};

// Packed by Python: eight bytes each, in this order.
struct Call {
    // What calls of one shape share.
    int64_t dtype, channels_last, samples, channels, size;
    int64_t statistics;
    const int64_t* kinds;
    int64_t logits;          // how many there are
    const int64_t* members;  // which of them belong to the statistics
    int64_t parts;
    const int64_t* ends;  // of the parts of the batch, in samples
    int64_t projection, tied, importance_dtype, radius_dtype, affine_dtype, running_dtype;
    double eps;
    // What each call has of its own.
    ParallelFor parallel;
    Team team;  // where there is no `parallel`; both may be missing
    int64_t threads, flags;
    const void *x, *weight, *bias, *running_mean, *running_var;
    void* y;  // forward: to be written; backward: given where its sign decides on ReLU
    double* saved;
    // Forward.
    const void *residual, *mean_logits, *var_logits;  // the logits missing together: a single statistic
    const void* radius;                               // of SparsestMax
    const int64_t *mean_fixed, *var_fixed;            // above 0 where the choice is final
    void *batch_mean, *batch_var;                     // of the dtype of the arithmetic
    void *moved_mean, *moved_var;                     // running statistics that are moved towards those of the batch
    int64_t* counter;
    double share;  // of the batch in running statistics; below 0 the average over all batches
    // Backward.
    const void* dy;
    void *dx, *dz, *weight_grad, *bias_grad, *mean_grad, *var_grad;
};

enum Status : int64_t { DONE = 0, NO_MEMORY = 1, NO_THREADS = 2 };

// Elements for which another thread is worth waking.
const int64_t GRAIN = 16384;

template <class F> struct Spread {
    F* body;
    int64_t count, tasks, next;
    static void run(int64_t begin, int64_t end, void* context) {
        Spread* self = (Spread*)context;
        for (int64_t t = begin; t < end; t++)
            (*self->body)(self->count * t / self->tasks, self->count * (t + 1) / self->tasks);
    }
    // A team may be smaller than asked for, so that its threads take tasks as long as there are some.
    static void join(void* context) {
        Spread* self = (Spread*)context;
        for (;;) {
            int64_t t = __atomic_fetch_add(&self->next, 1, __ATOMIC_RELAXED);
            if (t >= self->tasks) return;
            run(t, t + 1, context);
        }
    }
};

// Calls body(begin, end) for ranges that together are [0, count), on as many threads as the work is worth.
template <class F> bool spread(const Call& call, int64_t threads, int64_t count, int64_t work, F body) {
    int64_t tasks = work / GRAIN;
    if (tasks > threads) tasks = threads;
    if (tasks > count) tasks = count;
    if (tasks <= 1 || !(call.parallel || call.team)) {
        if (count) body((int64_t)0, count);
        return true;
    }
    Spread<F> spread = {&body, count, tasks, 0};
    if (!call.parallel) {
        call.team(Spread<F>::join, &spread, (unsigned)tasks, 0);
        return true;
    }
    return call.parallel(0, tasks, 1, Spread<F>::run, &spread) == 0;
}

// Memory for one call, given back at its end; what it holds at first is anything.
struct Memory {
    char *given, *held;  // the second begins a cache line, so that vectors of tables lie in one
    explicit Memory(int64_t bytes) : given((char*)malloc((size_t)(bytes + 64))) {
#ifdef POISONED
        // In tests, so that whatever is read before it is written shows.
        if (given) __builtin_memset(given, 0xff, (size_t)(bytes + 64));
#endif
        held = given ? (char*)(((uintptr_t)given + 63) / 64 * 64) : nullptr;
    }
    ~Memory() { free(given); }
    Memory(const Memory&) = delete;
    void operator=(const Memory&) = delete;
};

enum Dtype : int64_t { FLOAT, DOUBLE, BRAIN, HALF };

template <class F> INLINE void with_dtype(int64_t dtype, F f) {
    if (dtype == FLOAT) f((float*)nullptr);
    else if (dtype == DOUBLE) f((double*)nullptr);
    else if (dtype == BRAIN) f((Brain*)nullptr);
    else f((_Float16*)nullptr);
}

template <class T> void read_as(const T* table, int64_t count, double* out) {
    for (int64_t i = 0; i < count; i++) out[i] = (double)Element<T>::one(table + i);
}

template <class T> void write_as(T* table, int64_t count, const double* from) {
    for (int64_t i = 0; i < count; i++) Element<T>::put(table + i, (Computed<T>)from[i]);
}

// Small tables come in any dtype, and are computed with in double.
inline void read_table(const void* table, int64_t dtype, int64_t count, double* out) {
    with_dtype(dtype, [&](auto* type) { read_as((decltype(type))table, count, out); });
}

inline void write_table(void* table, int64_t dtype, int64_t count, const double* from) {
    with_dtype(dtype, [&](auto* type) { write_as((decltype(type))table, count, from); });
}
