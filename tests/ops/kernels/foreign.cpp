// Loads a library, which may be that of another kind of machine, normalizes by it, and prints what it gave:
// a line for each result, of so many sums over it.
#include <stdio.h>

#include "importance.h"

#ifdef _WIN32
extern "C" __declspec(dllimport) void* LoadLibraryA(const char*);
extern "C" __declspec(dllimport) void* GetProcAddress(void*, const char*);
static void* opened(const char* path) { return LoadLibraryA(path); }
static void* function(void* library, const char* name) { return GetProcAddress(library, name); }
#else
#include <dlfcn.h>
static void* opened(const char* path) { return dlopen(path, RTLD_NOW); }
static void* function(void* library, const char* name) { return dlsym(library, name); }
#endif

typedef int64_t (*Function)(Call*);

static double number(int64_t i) { return (double)((i * 7919) % 1009) / 1009 - 0.4; }

template <class T> static T* numbers(int64_t count) {
    T* made = (T*)malloc((size_t)count * sizeof(T));
    for (int64_t i = 0; i < count; i++) {
        float narrow = (float)number(i);
        made[i] = (T)narrow;
    }
    return made;
}

template <> Brain* numbers<Brain>(int64_t count) {
    Brain* made = (Brain*)malloc((size_t)count * sizeof(Brain));
    for (int64_t i = 0; i < count; i++) {
        float narrow = (float)number(i);
        uint32_t bits;
        __builtin_memcpy(&bits, &narrow, sizeof bits);
        made[i].bits = (uint16_t)(bits >> 16);
    }
    return made;
}

static double wide(double v) { return v; }
static double wide(float v) { return v; }
static double wide(_Float16 v) { return (double)v; }
static double wide(Brain v) {
    uint32_t bits = (uint32_t)v.bits << 16;
    float narrow;
    __builtin_memcpy(&narrow, &bits, sizeof bits);
    return narrow;
}

template <class T> static void print(const T* values, int64_t count) {
    double sums[4] = {};
    for (int64_t i = 0; i < count; i++) sums[i % 4] += wide(values[i]) * (1 + number(i + 5));
    printf("%.17g %.17g %.17g %.17g\n", sums[0], sums[1], sums[2], sums[3]);
}

template <class T> static bool once(Function forward, Function backward, int64_t dtype, int64_t last, bool residual) {
    const int64_t n = 3, c = 13, size = 77, total = n * c * size, k = 3;
    int64_t kinds[k] = {INSTANCE, 1, BATCH}, members[k] = {0, 1, 2}, ends[1] = {n}, counter = 0;
    double logits[2][k] = {{.3, .1, .2}, {.2, .4, .1}}, grads[2][k];
    T *x = numbers<T>(total), *dy = numbers<T>(total), *added = numbers<T>(total), *y = numbers<T>(total),
      *dx = numbers<T>(total), *dz = numbers<T>(total);
    double *weight = numbers<double>(c), *bias = numbers<double>(c), *mean = numbers<double>(c),
           *var = numbers<double>(c), *weight_grad = numbers<double>(c), *bias_grad = numbers<double>(c);
    Call call = {};
    call.dtype = dtype, call.channels_last = last, call.samples = n, call.channels = c, call.size = size;
    call.statistics = call.logits = k, call.kinds = kinds, call.members = members, call.parts = 1, call.ends = ends;
    call.projection = SOFTMAX, call.eps = 1e-2, call.share = .1, call.threads = 1;
    call.importance_dtype = call.affine_dtype = call.running_dtype = DOUBLE;
    call.flags = (residual ? RELU : 0) | UNBIASED | LEARNS | KEEPS | NEEDS_INPUT;
    call.x = x, call.weight = weight, call.bias = bias, call.y = y;
    call.moved_mean = mean, call.moved_var = var, call.counter = &counter;
    call.residual = residual ? added : nullptr, call.mean_logits = logits[0], call.var_logits = logits[1];
    call.saved = (double*)malloc((size_t)(1 << 20));
    if (forward(&call)) return false;
    print(y, total), print(mean, c), print(var, c);
    call.y = residual ? y : nullptr, call.dy = dy, call.dx = dx, call.dz = residual ? dz : nullptr;
    call.weight_grad = weight_grad, call.bias_grad = bias_grad, call.mean_grad = grads[0], call.var_grad = grads[1];
    if (backward(&call)) return false;
    print(dx, total), print(weight_grad, c), print(bias_grad, c), print(grads[0], k), print(grads[1], k);
    return true;  // what was allocated goes with the process
}

int main(int, char** given) {
    void* library = opened(given[1]);
    if (!library) return 2;
    Function forward = (Function)function(library, "switchnorm_forward");
    Function backward = (Function)function(library, "switchnorm_backward");
    for (int64_t last = 0; last < 2; last++)
        for (int residual = 0; residual < 2; residual++) {
            if (!once<float>(forward, backward, FLOAT, last, residual)) return 1;
            if (!once<double>(forward, backward, DOUBLE, last, residual)) return 1;
            if (!once<Brain>(forward, backward, BRAIN, last, residual)) return 1;
            if (!once<_Float16>(forward, backward, HALF, last, residual)) return 1;
        }
    return 0;
}
