// A provider that costs next to nothing: answers the four wire formats from texts made at start.
//
//   mock_upstream [--port N] [--chunks N] [--interval-us N]
//
// Prints "port N" and serves on 127.0.0.1 until it is killed. What it does with a request is said
// by the model's name, which survives every proxy: "…paced…" streams one event per interval,
// "…idle…" begins to and stops, "…silent…" never answers, any other name streams at
// once, one send per event. A request without "stream":true (and without streamGenerateContent in
// its path) gets a whole reply. GET /bench/stats tells what happened.
//
// One thread, one epoll, one timer wheel.

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "common.h"

namespace bench {
namespace {

// --- what is answered ----------------------------------------------------------------------------

struct Format {
  std::string whole;  // head and body of a whole reply
  // Framed as HTTP chunks; the first begins with the head, the last ends the reply.
  std::vector<std::string> events;
  std::size_t lead;  // events up to the first that has text: providers send them together
};

constexpr std::string_view kReplyText =
    "The failing test compares two floating point numbers with ==, which holds on one machine and "
    "not on the other. "
    "I replaced the comparison by one with a tolerance, ran the whole suite twice, and both runs "
    "pass. The change is "
    "in tests/test_geometry.py, lines 41 to 46; nothing else needed to move. If you like I can "
    "also look for the same "
    "pattern elsewhere: a quick search shows eleven more places, most of them in the rendering "
    "code, where it is "
    "harmless today but would bite after the planned switch to single precision.";

const char* const kHeaders =
    "date: Sat, 01 Nov 2025 12:00:00 GMT\r\nserver: mock\r\nx-request-id: "
    "req_0af7651916cd43dd8448eb211c80319c\r\n"
    "x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: "
    "9999\r\nx-ratelimit-limit-tokens: 2000000\r\n"
    "x-ratelimit-remaining-tokens: 1999000\r\n";

std::string whole_reply(const std::string& body) {
  return std::string("HTTP/1.1 200 OK\r\n") + kHeaders +
         "content-type: application/json\r\ncontent-length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

std::vector<std::string> stream_of(const std::vector<std::string>& events) {
  std::vector<std::string> out;
  for (const auto& event : events) {
    char size[32];
    std::snprintf(size, sizeof size, "%zx\r\n", event.size());
    out.push_back(size + event + "\r\n");
  }
  out.front() = std::string("HTTP/1.1 200 OK\r\n") + kHeaders +
                "content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
                "transfer-encoding: chunked\r\n\r\n" +
                out.front();
  out.back() += "0\r\n\r\n";
  return out;
}

// The n-th of the pieces a streamed text consists of.
std::string piece(int n) {
  static const char* const words[] = {" the",  " test", " compares",  " numbers",
                                      " with", " a",    " tolerance", ",",
                                      " so",   " it",   " holds",     " everywhere"};
  return words[n % std::size(words)];
}

Format chat(int chunks) {
  const std::string start =
      R"(data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1761998400,)"
      R"("model":"bench","service_tier":"default","system_fingerprint":"fp_50cad350e4","choices":[)";
  std::vector<std::string> events{
      start +
      R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})"
      "\n\n"};
  for (int n = 0; n < chunks - 4; ++n) {
    events.push_back(start + R"({"index":0,"delta":{"content":")" + piece(n) +
                     R"("},"logprobs":null,"finish_reason":null}]})"
                     "\n\n");
  }
  events.push_back(start + R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]})"
                           "\n\n");
  events.push_back(start +
                   R"(],"usage":{"prompt_tokens":74,"completion_tokens":62,"total_tokens":136,)"
                   R"("prompt_tokens_details":{"cached_tokens":0}}})"
                   "\n\n");
  events.push_back("data: [DONE]\n\n");
  return {
      whole_reply(
          R"({"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion",)"
          R"("created":1761998400,"model":"bench","choices":[{"index":0,"message":{"role":"assistant",)"
          R"("content":")" +
          std::string(kReplyText) +
          R"(","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":)"
          R"({"prompt_tokens":74,"completion_tokens":112,"total_tokens":186,"prompt_tokens_details":)"
          R"({"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},)"
          R"("service_tier":"default","system_fingerprint":"fp_50cad350e4"})"),
      stream_of(events), 2};
}

// An SSE event of the formats that name their events; the data repeats the name as its type.
std::string typed(const std::string& type, const std::string& rest) {
  return "event: " + type + "\ndata: {\"type\":\"" + type + "\"," + rest + "}\n\n";
}

Format messages(int chunks) {
  std::vector<std::string> events{
      typed(
          "message_start",
          R"("message":{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"bench",)"
          R"("content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":74,"output_tokens":1}})"),
      typed("content_block_start", R"("index":0,"content_block":{"type":"text","text":""})")};
  for (int n = 0; n < chunks - 5; ++n) {
    events.push_back(
        typed("content_block_delta",
              R"("index":0,"delta":{"type":"text_delta","text":")" + piece(n) + "\"}"));
  }
  events.push_back(typed("content_block_stop", R"("index":0)"));
  events.push_back(typed("message_delta",
                         R"("delta":{"stop_reason":"end_turn","stop_sequence":null},)"
                         R"("usage":{"output_tokens":61})"));
  events.push_back("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
  return {
      whole_reply(
          R"({"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"bench",)"
          R"("content":[{"type":"text","text":")" +
          std::string(kReplyText) +
          R"("}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":74,)"
          R"("cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":112}})"),
      stream_of(events), 3};
}

Format responses(int chunks) {
  const auto reply = [](const char* status, const std::string& output, const char* usage) {
    return R"({"id":"resp_67cb71b351908190a308f3859487620d06981a8637e6bc44","object":"response",)"
           R"("created_at":1761998400,"status":")" +
           std::string(status) +
           R"(","error":null,"incomplete_details":null,"model":"bench","output":[)" + output +
           R"(],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":)" + usage + "}";
  };
  const auto message = [](const char* status, std::string_view text) {
    return R"({"id":"msg_67cb71b3c2b0819084d481baaaf148f206981a8637e6bc44","type":"message","status":")" +
           std::string(status) +
           R"(","role":"assistant","content":[{"type":"output_text","text":")" + std::string(text) +
           R"(","annotations":[]}]})";
  };
  const char* const usage =
      R"({"input_tokens":74,"input_tokens_details":{"cached_tokens":0},"output_tokens":58,)"
      R"("output_tokens_details":{"reasoning_tokens":0},"total_tokens":132})";
  const std::string where =
      R"("item_id":"msg_67cb71b3c2b0819084d481baaaf148f206981a8637e6bc44","output_index":0,"content_index":0,)";
  int sequence = 0;
  std::vector<std::string> events;
  const auto add = [&](const std::string& type, const std::string& rest) {
    events.push_back(typed(type, "\"sequence_number\":" + std::to_string(sequence++) + "," + rest));
  };
  const std::string empty_item =
      R"({"id":"msg_67cb71b3c2b0819084d481baaaf148f206981a8637e6bc44","type":"message","status":"in_progress",)"
      R"("role":"assistant","content":[]})";
  add("response.created", "\"response\":" + reply("in_progress", "", "null"));
  add("response.in_progress", "\"response\":" + reply("in_progress", "", "null"));
  add("response.output_item.added", R"("output_index":0,"item":)" + empty_item);
  add("response.content_part.added",
      where + R"("part":{"type":"output_text","text":"","annotations":[]})");
  std::string text;
  for (int n = 0; n < chunks - 8; ++n) {
    text += piece(n);
    add("response.output_text.delta", where + R"("delta":")" + piece(n) + "\"");
  }
  add("response.output_text.done", where + R"("text":")" + text + "\"");
  add("response.content_part.done",
      where + R"("part":{"type":"output_text","text":")" + text + R"(","annotations":[]})");
  add("response.output_item.done", R"("output_index":0,"item":)" + message("completed", text));
  add("response.completed",
      "\"response\":" + reply("completed", message("completed", text), usage));
  return {whole_reply(reply("completed", message("completed", kReplyText), usage)),
          stream_of(events), 5};
}

Format gemini(int chunks) {
  const std::string end =
      R"("usageMetadata":{"promptTokenCount":74,"candidatesTokenCount":66,"totalTokenCount":140},)"
      R"("modelVersion":"bench","responseId":"mZqKaIvyFoKqz7IPpKqTyQ4"})";
  const auto candidate = [&](std::string_view text, const char* finish) {
    return R"({"candidates":[{"content":{"parts":[{"text":")" + std::string(text) +
           R"("}],"role":"model"})" + finish + R"(,"index":0}],)" + end;
  };
  std::vector<std::string> events;
  for (int n = 0; n < chunks; ++n) {
    events.push_back(
        "data: " + candidate(piece(n), n + 1 == chunks ? R"(,"finishReason":"STOP")" : "") +
        "\r\n\r\n");
  }
  return {whole_reply(candidate(kReplyText, R"(,"finishReason":"STOP")")), stream_of(events), 1};
}

// --- who is served -------------------------------------------------------------------------------

struct Link {
  Link* before = this;
  Link* after = this;

  void unlink() {
    before->after = after;
    after->before = before;
    before = after = this;
  }
  bool is_linked() const { return after != this; }
  void push_before(Link& head) {
    before = head.before;
    after = &head;
    before->after = this;
    head.before = this;
  }
};

// One connection: reads requests one after another, answers each before it looks at the next.
//
//   reading ─► replying ─► reading …        (held: replying for ever, until the other side closes)
struct Connection : Link {
  int fd = -1;
  std::string in;
  std::size_t request_end = 0;        // of the request being read, once its head is known
  const Format* streaming = nullptr;  // set while replying with events
  std::size_t next_event = 0;
  bool paced = false;
  bool held = false;  // idle or silent
  std::string out;    // what the socket did not take
  bool wants_write = false;

  bool is_replying() const { return streaming != nullptr || held || !out.empty(); }
};

struct Options {
  int port = 0;
  int chunks = 66;
  std::int64_t interval_ns = 20'000'000;
};

class Mock {
 public:
  explicit Mock(const Options& options)
      : options_(options),
        formats_{chat(options.chunks), messages(options.chunks), responses(options.chunks),
                 gemini(options.chunks)} {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    auto address = loopback(static_cast<std::uint16_t>(options.port));
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) ||
        listen(listener_, 4096))
      die("listen");
    socklen_t length = sizeof address;
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    std::printf("port %d\n", ntohs(address.sin_port));
    std::fflush(stdout);
    epoll_ = epoll_create1(0);
    epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event);
    tick_ = now_ns() / kSlotNs;
  }

  [[noreturn]] void run() {
    std::array<epoll_event, 256> events;
    for (;;) {
      const auto wait = until_next_slot();
      const int count = epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()),
                                     wait ? &*wait : nullptr, nullptr);
      for (int i = 0; i < count; ++i) {
        auto* connection = static_cast<Connection*>(events[i].data.ptr);
        if (!connection) {
          accept_all();
        } else if (!on_ready(*connection, events[i].events)) {
          close_connection(*connection);
        }
      }
      turn_wheel();
    }
  }

 private:
  static constexpr std::int64_t kSlotNs = 200'000;
  static constexpr std::size_t kSlots = 1024;  // 204 ms: the longest interval
  static constexpr std::size_t kRemembered = 4096;

  void accept_all() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
      if (fd < 0) return;
      no_delay(fd);
      auto* connection = new Connection;
      connection->fd = fd;
      epoll_event event{.events = EPOLLIN | EPOLLRDHUP, .data = {.ptr = connection}};
      epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
      ++open_;
    }
  }

  void close_connection(Connection& connection) {
    if (connection.is_replying()) {
      if (aborts_.size() == kRemembered) aborts_.clear();
      aborts_.push_back(now_ns());
      ++aborted_;
    }
    leave_wheel(connection);
    close(connection.fd);
    --open_;
    delete &connection;
  }

  // False: the connection is over.
  bool on_ready(Connection& connection, std::uint32_t events) {
    if (events & (EPOLLERR | EPOLLHUP)) return false;
    if (events & EPOLLOUT && !flush(connection)) return false;
    if (events & EPOLLIN) {
      for (;;) {
        const auto n = recv(connection.fd, scratch_.data(), scratch_.size(), 0);
        if (n == 0) return false;
        if (n < 0) {
          if (errno == EAGAIN) break;
          return false;
        }
        connection.in.append(scratch_.data(), static_cast<std::size_t>(n));
        if (static_cast<std::size_t>(n) < scratch_.size()) break;
      }
      return take_requests(connection);
    }
    return !(events & EPOLLRDHUP);
  }

  bool take_requests(Connection& connection) {
    while (!connection.is_replying()) {
      std::string_view in = connection.in;
      const auto head_end = connection.request_end ? 0 : in.find("\r\n\r\n");
      if (head_end == in.npos) return in.size() < 65536;
      if (!connection.request_end) {
        const auto length = header_value(in.substr(0, head_end + 2), "content-length");
        connection.request_end =
            head_end + 4 + (length.empty() ? 0 : std::strtoull(length.data(), nullptr, 10));
        connection.in.reserve(connection.request_end);
        in = connection.in;
      }
      if (in.size() < connection.request_end) return true;
      const auto request = in.substr(0, connection.request_end);
      if (!answer(connection, request)) return false;
      connection.in.erase(0, connection.request_end);
      connection.request_end = 0;
    }
    return true;
  }

  bool answer(Connection& connection, std::string_view request) {
    const auto line = request.substr(0, request.find("\r\n"));
    const auto path = line.substr(0, line.rfind(' '));
    const auto body = request.substr(request.find("\r\n\r\n") + 4);
    const auto has = [&](std::string_view part) { return path.find(part) != path.npos; };
    if (has("/bench/stats")) return send_bytes(connection, stats());
    if (has("/models") && path.starts_with("GET")) {
      return send_bytes(
          connection, whole_reply(R"({"object":"list","data":[{"id":"bench","object":"model"}]})"));
    }
    const Format* format = has("/chat/completions") ? &formats_[0]
                           : has("/messages")       ? &formats_[1]
                           : has("/responses")      ? &formats_[2]
                           : has("enerateContent")  ? &formats_[3]
                                                    : nullptr;
    if (!format)
      return send_bytes(connection, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    ++requests_;
    body_bytes_ += body.size();
    const auto model = format == &formats_[3] ? path : string_after(body, "\"model\"");
    const auto named = [&](std::string_view part) { return model.find(part) != model.npos; };
    if (named("silent")) {
      connection.held = true;
      return true;
    }
    if (!(has("stream") || wants_stream(body))) return send_bytes(connection, format->whole);
    connection.streaming = format;
    connection.next_event = 0;
    connection.held = named("idle");
    connection.paced = named("paced");
    if (!connection.paced && !connection.held) return send_events(connection);
    std::string lead;
    while (connection.next_event < format->lead) lead += format->events[connection.next_event++];
    if (connection.held) connection.streaming = nullptr;
    if (!send_bytes(connection, lead)) return false;
    if (connection.held) return true;
    schedule(connection, now_ns() / kSlotNs);
    return true;
  }

  static std::string_view string_after(std::string_view body, std::string_view key) {
    const auto at = body.find(key);
    if (at == body.npos) return {};
    const auto open = body.find('"', at + key.size());
    if (open == body.npos) return {};
    return body.substr(open + 1, body.find('"', open + 1) - open - 1);
  }

  static bool wants_stream(std::string_view body) {
    const auto at = body.find("\"stream\"");
    return at != body.npos && body.substr(at + 8, 8).find("true") != body.npos;
  }

  bool send_events(Connection& connection) {
    while (connection.streaming && connection.out.empty()) {
      if (!send_event(connection)) return false;
    }
    return true;
  }

  bool send_event(Connection& connection) {
    const auto& events = connection.streaming->events;
    const auto& event = events[connection.next_event++];
    if (connection.next_event == events.size()) connection.streaming = nullptr;
    return send_bytes(connection, event);
  }

  bool send_bytes(Connection& connection, std::string_view bytes) {
    if (connection.out.empty()) {
      const auto n = send(connection.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) return false;
      bytes.remove_prefix(n < 0 ? 0 : static_cast<std::size_t>(n));
    }
    if (bytes.empty()) return true;
    connection.out.append(bytes);
    want_write(connection, true);
    return true;
  }

  bool flush(Connection& connection) {
    const auto n = send(connection.fd, connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN;
    connection.out.erase(0, static_cast<std::size_t>(n));
    if (!connection.out.empty()) return true;
    want_write(connection, false);
    if (connection.streaming && !connection.paced && !send_events(connection)) return false;
    return take_requests(connection);
  }

  void want_write(Connection& connection, bool on) {
    if (connection.wants_write == on) return;
    connection.wants_write = on;
    epoll_event event{.events = EPOLLIN | EPOLLRDHUP | (on ? EPOLLOUT : 0u),
                      .data = {.ptr = &connection}};
    epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
  }

  // --- the wheel: a paced stream stands in the slot of its next event
  // ------------------------------------------

  void schedule(Connection& connection, std::int64_t from) {
    const auto slot = static_cast<std::size_t>(from + options_.interval_ns / kSlotNs) % kSlots;
    connection.push_before(wheel_[slot]);
    ++waiting_;
  }

  void leave_wheel(Connection& connection) {
    if (!connection.is_linked()) return;
    connection.unlink();
    --waiting_;
  }

  void turn_wheel() {
    const auto now = now_ns() / kSlotNs;
    if (waiting_ == 0) tick_ = now;
    while (tick_ < now) {
      ++tick_;
      Link& slot = wheel_[static_cast<std::size_t>(tick_) % kSlots];
      while (slot.is_linked()) {
        auto& connection = static_cast<Connection&>(*slot.after);
        leave_wheel(connection);
        bool is_open = send_event(connection);
        if (is_open && connection.streaming) {
          schedule(connection,
                   tick_);  // not from the clock: a late turn delays nobody's next event
        } else if (is_open) {
          is_open = take_requests(connection);
        }
        if (!is_open) close_connection(connection);
      }
    }
  }

  std::optional<timespec> until_next_slot() const {
    for (std::size_t ahead = 1; waiting_ > 0 && ahead <= kSlots; ++ahead) {
      if (!wheel_[(static_cast<std::size_t>(tick_) + ahead) % kSlots].is_linked()) continue;
      const auto due = (tick_ + static_cast<std::int64_t>(ahead)) * kSlotNs - now_ns();
      const auto wait = due > 0 ? due : 0;
      return timespec{wait / 1'000'000'000, wait % 1'000'000'000};
    }
    return std::nullopt;
  }

  std::string stats() const {
    std::string body = "{\"requests\":" + std::to_string(requests_) +
                       ",\"body_bytes\":" + std::to_string(body_bytes_) +
                       ",\"open\":" + std::to_string(open_) +
                       ",\"aborted\":" + std::to_string(aborted_) + ",\"aborts_ns\":[";
    const auto from = aborts_.size() > 64 ? aborts_.size() - 64 : 0;
    for (auto i = from; i < aborts_.size(); ++i) {
      if (i > from) body += ',';
      body += std::to_string(aborts_[i]);
    }
    return whole_reply(body + "]}");
  }

  Options options_;
  std::array<Format, 4> formats_;
  int listener_ = -1;
  int epoll_ = -1;
  std::array<Link, kSlots> wheel_;
  std::int64_t tick_ = 0;
  std::size_t waiting_ = 0;
  std::array<char, 262144> scratch_;
  std::uint64_t requests_ = 0;
  std::uint64_t body_bytes_ = 0;
  std::uint64_t open_ = 0;
  std::uint64_t aborted_ = 0;
  std::vector<std::int64_t> aborts_;  // when a connection closed in the middle of its reply
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  bench::prepare_process();
  bench::Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const long long value = std::atoll(argv[i + 1]);
    if (name == "--port") {
      options.port = static_cast<int>(value);
    } else if (name == "--chunks") {
      options.chunks = static_cast<int>(value);
    } else if (name == "--interval-us") {
      options.interval_ns = value * 1000;
    } else {
      std::fprintf(stderr, "mock_upstream: unknown option %s\n", argv[i]);
      return 2;
    }
  }
  static bench::Mock mock(options);
  mock.run();
}
