/*
 * A CLI that costs as little as one can: it prints lines as fast as the pipe takes them, or at a pace, and nothing else.
 *
 * It speaks as much stream-json as the driver needs (2.1.197), for as many turns as there are messages. A prompt is a plan
 * in JSON: {lines, bytes} prints them at once, {lines, bytes, everyMs} one at a time, {bytes, everyMs} until it is
 * interrupted; with fromUs a pace begins at that time, so that many can begin together. A line says its number in the turn
 * (n), whose it is (salt, as the plan has it), when it was printed in microseconds of the machine's monotonic clock (at), and
 * is filled with a pattern that follows from n, so that whoever reads it sees what is lost, changed or of another run. It
 * stays readable while its output is blocked, as the real one does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define VERSION "2.1.197"
#define CHUNK (64 * 1024)
#define MAX_LINE (16 * 1024 * 1024)
#define HEAD_BYTES 128

static char *out;
static size_t out_size, out_length, out_sent;
static const char *session_id = "";

/* One turn. `left` below 0: until it is interrupted. `every_us` 0: at once. */
static int in_turn;
static long left, line_bytes, every_us, next_n, salt;
static long long due_us, at_us;

static long long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void reserve(size_t more) {
  if (out_length + more <= out_size) return;
  out_size = (out_length + more) * 2;
  out = realloc(out, out_size);
  if (!out) exit(70);
}

static void print(const char *text) {
  size_t length = strlen(text);
  reserve(length + 1);
  memcpy(out + out_length, text, length);
  out_length += length;
  out[out_length++] = '\n';
}

static char *put_number(char *to, long long value) {
  char digits[24];
  int n = 0;
  do digits[n++] = '0' + value % 10;
  while (value /= 10);
  while (n) *to++ = digits[--n];
  return to;
}

static char *put_text(char *to, const char *text) {
  size_t length = strlen(text);
  memcpy(to, text, length);
  return to + length;
}

/* 62 signs over and over, long enough that the filling of any line is one piece of it; load/pattern.ts has the same. */
static char *pattern;
static void make_pattern(long bytes) {
  static const char signs[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  static long made;
  if (bytes + 62 <= made) return;
  made = bytes + 62;
  pattern = realloc(pattern, made);
  if (!pattern) exit(70);
  for (long i = 0; i < made; i++) pattern[i] = signs[i % 62];
}

static void line(void) {
  reserve(line_bytes + HEAD_BYTES);
  char *from = out + out_length, *to = from;
  to = put_text(to, "{\"type\":\"stream_event\",\"n\":");
  to = put_number(to, next_n);
  to = put_text(to, ",\"salt\":");
  to = put_number(to, salt);
  to = put_text(to, ",\"at\":");
  to = put_number(to, at_us);
  to = put_text(to, ",\"pad\":\"");
  long filling = line_bytes - (to - from) - 3;
  if (filling > 0) {
    memcpy(to, pattern + next_n % 62, filling);
    to += filling;
  }
  to = put_text(to, "\"}\n");
  out_length = to - out;
  next_n++;
  if (left > 0) left--;
}

static void end_turn(void) {
  char text[1024];
  snprintf(text, sizeof text,
           "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"done\",\"session_id\":\"%s\",\"num_turns\":1,"
           "\"total_cost_usd\":0,\"usage\":{\"input_tokens\":1,\"output_tokens\":1,\"cache_creation_input_tokens\":0,"
           "\"cache_read_input_tokens\":0}}",
           session_id);
  print(text);
  in_turn = 0;
}

static int number_after(const char *text, const char *key, long *value) {
  const char *at = strstr(text, key);
  if (at) *value = strtol(at + strlen(key), NULL, 10);
  return at != NULL;
}

static void begin_turn(const char *content) {
  char text[1024];
  snprintf(text, sizeof text, "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"%s\",\"model\":\"fake\",\"claude_code_version\":\"" VERSION "\"}", session_id);
  print(text);
  long every_ms = 0;
  left = -1;
  line_bytes = 200;
  number_after(content, "lines\\\":", &left);
  number_after(content, "bytes\\\":", &line_bytes);
  if (line_bytes > MAX_LINE) line_bytes = MAX_LINE;
  salt = 0;
  number_after(content, "salt\\\":", &salt);
  number_after(content, "everyMs\\\":", &every_ms);
  if (left < 0 && every_ms <= 0) left = 0;
  every_us = every_ms * 1000;
  due_us = now_us() + every_us;
  long from_us = 0;
  if (number_after(content, "fromUs\\\":", &from_us)) due_us = from_us;
  next_n = 1;
  in_turn = 1;
  make_pattern(line_bytes);
}

static void answer(const char *request) {
  char id[128] = "", text[1024];
  const char *at = strstr(request, "\"request_id\":\"");
  if (at) sscanf(at + 14, "%127[^\"]", id);
  const char *told = "{}";
  char more[128];
  if (strstr(request, "\"subtype\":\"get_binary_version\"")) told = "{\"version\":\"" VERSION "\"}";
  if (strstr(request, "\"subtype\":\"initialize\"")) {
    snprintf(more, sizeof more, "{\"commands\":[],\"agents\":[],\"models\":[],\"pid\":%d}", (int)getpid());
    told = more;
  }
  snprintf(text, sizeof text, "{\"type\":\"control_response\",\"response\":{\"subtype\":\"success\",\"request_id\":\"%s\",\"response\":%s}}", id, told);
  print(text);
  if (in_turn && strstr(request, "\"subtype\":\"interrupt\"")) end_turn();
}

static void take(const char *message) {
  if (strstr(message, "\"type\":\"control_request\"")) return answer(message);
  if (!strstr(message, "\"type\":\"user\"")) return;
  const char *content = strstr(message, "\"content\":");
  begin_turn(content ? content : "");
}

/* What is due, up to a chunk: the rest when this has left. */
static void produce(void) {
  at_us = now_us();
  while (in_turn && out_length < CHUNK) {
    if (left == 0) return end_turn();
    if (every_us > 0) {
      if (at_us < due_us) return;
      due_us += every_us;
    }
    line();
  }
}

static int wait_ms(void) {
  if (!in_turn || every_us == 0 || left == 0) return -1;
  long long us = due_us - now_us();
  return us <= 0 ? 0 : (int)((us + 999) / 1000);
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--version")) return puts(VERSION " (Claude Code)") < 0;
    if (!strncmp(argv[i], "--session-id=", 13)) session_id = argv[i] + 13;
    if (!strncmp(argv[i], "--resume=", 9)) session_id = argv[i] + 9;
  }
  size_t in_size = CHUNK, in_length = 0;
  char *in = malloc(in_size);
  if (!in) return 70;
  fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK);
  int open = 1;
  while (open || in_turn || out_length > 0) {
    if (out_length == 0) produce();
    struct pollfd fds[] = {{.fd = open ? 0 : -1, .events = POLLIN}, {.fd = out_length > 0 ? 1 : -1, .events = POLLOUT}};
    if (poll(fds, 2, out_length > 0 ? -1 : wait_ms()) < 0 && errno != EINTR) return 74;
    if (out_length > 0 && fds[1].revents) {
      ssize_t sent = write(1, out + out_sent, out_length - out_sent);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) return 74;
      if (sent > 0) out_sent += sent;
      if (out_sent == out_length) out_sent = out_length = 0;
    }
    if (!open || !fds[0].revents) continue;
    if (in_length + 1 >= in_size && !(in = realloc(in, in_size *= 2))) return 70;
    ssize_t got = read(0, in + in_length, in_size - in_length - 1);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) {
      /* A turn that has no end of its own ends with its stdin. */
      open = 0;
      if (in_turn && left < 0) end_turn();
      continue;
    }
    in_length += got;
    in[in_length] = 0;
    char *from = in, *to;
    while ((to = memchr(from, '\n', in + in_length - from))) {
      *to = 0;
      take(from);
      from = to + 1;
    }
    in_length -= from - in;
    memmove(in, from, in_length);
  }
  return 0;
}
