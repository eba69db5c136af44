// Normalizations on four threads of its own, for a thread sanitizer, which has to see how threads are made and joined.
// It prints how many there were. With an argument every thread does all the work, which the sanitizer has to find.
#include <pthread.h>
#include <stdio.h>

#include <initializer_list>

#include "native.cpp"

const int THREADS = 4;
static bool overlapping = false;

struct Range {
    int64_t begin, end;
    Task task;
    void* context;
};

static void* run(void* given) {
    Range* range = (Range*)given;
    range->task(range->begin, range->end, range->context);
    return nullptr;
}

// As torch's parallel loop.
static int32_t parallel(int64_t begin, int64_t end, int64_t, Task task, void* context) {
    pthread_t threads[THREADS];
    Range ranges[THREADS];
    int64_t count = end - begin;
    for (int i = 0; i < THREADS; i++) {
        ranges[i] = {begin + count * i / THREADS, begin + count * (i + 1) / THREADS, task, context};
        if (overlapping) ranges[i].begin = begin, ranges[i].end = end;
        if (pthread_create(&threads[i], nullptr, run, &ranges[i])) return 1;
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], nullptr);
    return 0;
}

struct Member {
    void (*work)(void*);
    void* context;
};

static void* take_part(void* given) {
    Member* member = (Member*)given;
    member->work(member->context);
    return nullptr;
}

// As GNU OpenMP's teams, here of one thread less than asked for.
static void team(void (*work)(void*), void* context, unsigned count, unsigned) {
    pthread_t threads[THREADS];
    Member member = {work, context};
    for (unsigned i = 1; i < count; i++) pthread_create(&threads[i], nullptr, take_part, &member);
    for (unsigned i = 1; i < count; i++) pthread_join(threads[i], nullptr);
}

// Numbers that are neither alike nor large.
static float* numbers(int64_t count) {
    float* made = (float*)malloc((size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++) made[i] = (float)((i * 7919) % 1009) / 1009 - 0.4f;
    return made;
}

static int once(bool teams, int64_t channels_last, int64_t size, int64_t parts, int64_t kind, bool residual) {
    int64_t n = 4, c = 70, k = 3, total = n * c * size;
    int64_t kinds[3] = {INSTANCE, 2, kind}, members[3] = {0, 1, 2}, ends[2] = {parts == 2 ? 1 : n, n}, counter = 0;
    float *x = numbers(total), *dy = numbers(total), *added = numbers(total), *y = numbers(total), *dx = numbers(total),
          *dz = numbers(total), *tables[8], logits[2][3] = {{.3f, .1f, .2f}, {.2f, .4f, .1f}}, grads[2][3];
    for (float*& table : tables) table = numbers(c);
    Call call = {};
    call.channels_last = channels_last, call.samples = n, call.channels = c, call.size = size;
    call.statistics = call.logits = k, call.kinds = kinds, call.members = members, call.parts = parts, call.ends = ends;
    call.projection = SOFTMAX, call.eps = 1e-2, call.share = .1, call.threads = THREADS;
    if (teams) call.team = team;
    else call.parallel = parallel;
    call.flags = RELU | UNBIASED | LEARNS | KEEPS | NEEDS_INPUT;
    call.x = x, call.weight = tables[0], call.bias = tables[1], call.y = y;
    for (int64_t i = 0; i < c; i++) tables[3][i] += 1;
    if (kind == RUNNING) call.running_mean = tables[2], call.running_var = tables[3];
    else call.moved_mean = tables[2], call.moved_var = tables[3], call.counter = &counter;
    call.residual = residual ? added : nullptr, call.mean_logits = logits[0], call.var_logits = logits[1];
    call.saved = (double*)malloc((size_t)(8 * Rule::kept(call)));
    int64_t status = switchnorm_forward(&call);
    call.y = residual ? y : nullptr, call.dy = dy, call.dx = dx, call.dz = residual ? dz : nullptr;
    call.weight_grad = tables[4], call.bias_grad = tables[5], call.mean_grad = grads[0], call.var_grad = grads[1];
    status = status ? status : switchnorm_backward(&call);
    double sum = 0;
    for (int64_t i = 0; i < total; i++) sum += dx[i];
    for (float* each : {x, dy, added, y, dx, dz}) free(each);
    for (float* table : tables) free(table);
    free(call.saved);
    return status || sum != sum;
}

// All cases; how many there were, or -1.
static int all(bool teams) {
    int done = 0;
    for (int64_t last = 0; last < 2; last++)
        for (int64_t size : {35, 400, 9000})
            for (int64_t parts = 1; parts <= 2; parts++)
                for (int64_t kind : {BATCH, RUNNING})
                    for (int residual = 0; residual < 2; residual++, done++)
                        if (once(teams, last, size, kind == BATCH ? parts : 1, kind, residual)) return -1;
    return done;
}

static void* beside(void* found) {
    *(int*)found = all(true);
    return nullptr;
}

// Two programs' threads normalize at once, each on threads of its own.
int main(int count, char**) {
    overlapping = count > 1;
    int found = 0;
    pthread_t other;
    if (pthread_create(&other, nullptr, beside, &found)) return 1;
    int own = all(false);
    pthread_join(other, nullptr);
    printf("%d\n", own < 0 || found < 0 ? -1 : own + found);
    return 0;
}
