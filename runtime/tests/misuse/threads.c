/* One context in two threads, and from a callback of its own run. */
#include <pthread.h>

#include "misuse.h"

/* What a callback or another thread gets while a context runs. */
typedef struct {
    client *c;
    pthread_mutex_t mutex;
    pthread_cond_t turn;
    int stage; /* 1: the context runs; 2: it may continue */
    sqz_error ran, answered;
} meeting;

static void set_stage(meeting *m, int stage) {
    pthread_mutex_lock(&m->mutex);
    m->stage = stage;
    pthread_cond_broadcast(&m->turn);
    pthread_mutex_unlock(&m->mutex);
}

static void await_stage(meeting *m, int stage) {
    pthread_mutex_lock(&m->mutex);
    while (m->stage < stage) pthread_cond_wait(&m->turn, &m->mutex);
    pthread_mutex_unlock(&m->mutex);
}

/* Try to run the context that is running, by both functions. */
static void intrude(meeting *m) {
    int32_t *logits = exactly(m->c->num_classes * sizeof *logits);
    sqz_answer *answers = exactly(m->c->num_classes * sizeof *answers);
    m->ran = sqz_run(&m->c->context, m->c->pixels, logits, m->c->num_classes);
    m->answered = sqz_classify(&m->c->context, &m->c->image, answers, m->c->num_classes);
    free(answers), free(logits);
}

static void call_again(void *user, void (*task)(void *argument, unsigned i), void *argument,
                       unsigned count) {
    intrude(user);
    for (unsigned i = 0; i < count; i++) task(argument, i);
}

static void wait_for_the_other(void *user, void (*task)(void *argument, unsigned i), void *argument,
                               unsigned count) {
    meeting *m = user;
    set_stage(m, m->stage < 1 ? 1 : m->stage);
    await_stage(m, 2);
    for (unsigned i = 0; i < count; i++) task(argument, i);
}

static void *other_thread(void *argument) {
    meeting *m = argument;
    await_stage(m, 1);
    intrude(m);
    set_stage(m, 2);
    return NULL;
}

/* Runs the shared context again and again, or one of its own. */
typedef struct {
    client *c;
    int own;
    unsigned ran, busy, wrong;
} worker;

static void *work(void *argument) {
    worker *w = argument;
    const client *c = w->c;
    sqz_context own, *context = w->own ? &own : &w->c->context;
    size_t bytes = c->num_classes * sizeof(int32_t);
    int32_t *logits = exactly(bytes);
    void *arena = exactly(c->room);
    if (sqz_start(&own, &c->model, arena, c->room)) w->wrong++;
    for (unsigned i = 0; i < 200; i++) {
        sqz_error error = sqz_run(context, c->pixels, logits, c->num_classes);
        if (error == SQZ_BUSY) w->busy++;
        else if (error || memcmp(logits, c->expected, bytes)) w->wrong++;
        else w->ran++;
    }
    free(arena), free(logits);
    return NULL;
}

void threads(client *c) {
    meeting m = {c, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, SQZ_OK, SQZ_OK};
    pthread_t thread, all[4];
    for (int streamed = 0; streamed < 2; streamed++) {
        stop(c);
        start(c, streamed, 2);
        c->context.user = &m;
        c->context.parallel = call_again;
        ACCEPTED(run(c));
        expect("sqz_run from a callback", m.ran, SQZ_BUSY);
        expect("sqz_classify from a callback", m.answered, SQZ_BUSY);
        m.stage = 0;
        c->context.parallel = wait_for_the_other;
        if (pthread_create(&thread, NULL, other_thread, &m)) say("pthread_create", "failed", 0);
        ACCEPTED(sqz_run(&c->context, c->pixels, c->logits, c->num_classes));
        pthread_join(thread, NULL);
        expect("sqz_run from another thread", m.ran, SQZ_BUSY);
        expect("sqz_classify from another thread", m.answered, SQZ_BUSY);
        ACCEPTED(run(c));
        c->context.parallel = NULL;
        for (int own = 0; own < 2; own++) {
            worker workers[4];
            char text[80];
            unsigned ran = 0, busy = 0, wrong = 0;
            for (unsigned i = 0; i < 4; i++) {
                worker w = {c, own, 0, 0, 0};
                workers[i] = w;
                if (pthread_create(&all[i], NULL, work, &workers[i])) exit(1);
            }
            for (unsigned i = 0; i < 4; i++) {
                pthread_join(all[i], NULL);
                ran += workers[i].ran, busy += workers[i].busy, wrong += workers[i].wrong;
            }
            sprintf(text, "%u ran, %u busy, %u wrong", ran, busy, wrong);
            say(own ? "4 threads on a context each" : "4 threads on one context", text,
                !wrong && ran && !(own && busy));
        }
        ACCEPTED(run(c));
    }
}
