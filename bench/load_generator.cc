// Sends one HTTP request over and over, checks every reply and prints what it saw as one line of
// JSON.
//
//   load_generator --port N --path P --body FILE [--header "name: value"]... [--connections C]
//                  [--seconds S] [--requests N] [--rate R] [--stagger-ms M] [--end TEXT] [--same]
//                  [--hold] [--vary TEXT]
//
// Closed loop: each connection sends its next request when its reply is complete, until S seconds
// are over or N requests are sent. With --rate the loop is open: requests fall due at fixed times,
// and latency counts from the due time, not from the moment a connection was free. --stagger-ms
// spreads the first requests, so that paced streams do not march in step. --end: every reply must
// end with TEXT. --same: every reply must be byte for byte the first one. --hold: sends one request
// on each connection, prints "held C" when every reply has begun, and waits for the end of its
// input. --vary: TEXT in the body is replaced by as many letters, other ones in each request, so
// that no cache answers.
//
// One thread, one epoll.

#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <deque>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "common.h"

namespace bench {
namespace {

struct Options {
  std::uint16_t port = 0;
  std::string path = "/";
  std::string body;
  std::string headers;
  int connections = 1;
  double seconds = 1;
  std::uint64_t requests = ~0ULL;
  double rate = 0;
  double stagger_ms = 0;
  std::string end;
  std::string vary;
  bool same = false;
  bool hold = false;
};

// Nanoseconds in, percentiles in microseconds out. Keeps every sample, in units of 10 ns (up to 42
// s): runs are short.
class Samples {
 public:
  void add(std::int64_t ns) {
    samples_.push_back(static_cast<std::uint32_t>(std::min<std::int64_t>(ns / 10, 0xffffffff)));
  }

  std::string json() {
    if (samples_.empty()) return "null";
    std::sort(samples_.begin(), samples_.end());
    double sum = 0;
    for (const auto sample : samples_) sum += sample;
    const auto at = [&](double q) {
      return samples_[std::min(samples_.size() - 1,
                               static_cast<std::size_t>(q * static_cast<double>(samples_.size())))];
    };
    char out[160];
    std::snprintf(out, sizeof out,
                  R"({"p50":%.1f,"p90":%.1f,"p99":%.1f,"max":%.1f,"mean":%.1f,"n":%zu})",
                  at(0.5) / 1e2, at(0.9) / 1e2, at(0.99) / 1e2, samples_.back() / 1e2,
                  sum / static_cast<double>(samples_.size()) / 1e2, samples_.size());
    return out;
  }

 private:
  std::vector<std::uint32_t> samples_;
};

std::uint64_t fnv1a(std::string_view bytes) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211ULL;
  return hash;
}

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 32) {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\u%04x", c);
      out += hex;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// The bytes of replies, cut anywhere, into body bytes and the end of each reply.
class ReplyParser {
 public:
  enum class Outcome { more, done, broken };

  void begin() {
    head_.clear();
    status_ = 0;
    state_ = State::head;
  }

  int status() const { return status_; }
  bool closes() const { return closes_; }

  // Calls on_body(bytes) for each piece of the body.
  template <class OnBody>
  Outcome feed(std::string_view bytes, OnBody&& on_body) {
    while (!bytes.empty()) {
      switch (state_) {
        case State::head: {
          const auto searched = head_.size();
          head_.append(bytes);
          const auto end = head_.find("\r\n\r\n", searched > 3 ? searched - 3 : 0);
          if (end == head_.npos) return head_.size() > 65536 ? Outcome::broken : Outcome::more;
          bytes.remove_prefix(end + 4 - searched);
          head_.resize(end + 2);
          if (!read_head()) return Outcome::broken;
          if (state_ == State::body && left_ == 0) return end_of(bytes);
          break;
        }
        case State::body: {
          const auto piece = bytes.substr(0, left_);
          on_body(piece);
          bytes.remove_prefix(piece.size());
          left_ -= piece.size();
          if (left_ == 0) return end_of(bytes);
          break;
        }
        case State::chunk_size: {
          const char c = bytes.front();
          bytes.remove_prefix(1);
          if (c == '\n') {
            if (!read_chunk_size()) return Outcome::broken;
            state_ = left_ == 0 ? State::trailer : State::chunk;
          } else if (c != '\r') {
            line_ += c;
          }
          break;
        }
        case State::chunk: {
          const auto piece = bytes.substr(0, left_);
          on_body(piece);
          bytes.remove_prefix(piece.size());
          left_ -= piece.size();
          if (left_ == 0) state_ = State::chunk_end;
          break;
        }
        case State::chunk_end:
          if (bytes.front() == '\n') {
            state_ = State::chunk_size;
            line_.clear();
          }
          bytes.remove_prefix(1);
          break;
        case State::trailer: {
          const char c = bytes.front();
          bytes.remove_prefix(1);
          if (c == '\n') {
            if (line_.empty()) return end_of(bytes);
            line_.clear();
          } else if (c != '\r') {
            line_ += c;
          }
          break;
        }
      }
    }
    return Outcome::more;
  }

 private:
  enum class State { head, body, chunk_size, chunk, chunk_end, trailer };

  static Outcome end_of(std::string_view left_over) {
    return left_over.empty() ? Outcome::done : Outcome::broken;
  }

  bool read_head() {
    if (head_.size() < 12 || !head_.starts_with("HTTP/1.")) return false;
    status_ = std::atoi(head_.c_str() + 9);
    closes_ = header_value(head_, "connection").starts_with("close");
    line_.clear();
    left_ = 0;
    if (header_value(head_, "transfer-encoding").starts_with("chunked")) {
      state_ = State::chunk_size;
      return true;
    }
    const auto length = header_value(head_, "content-length");
    if (length.empty()) return false;
    left_ = std::strtoull(length.data(), nullptr, 10);
    state_ = State::body;
    return true;
  }

  bool read_chunk_size() {
    left_ = 0;
    const auto* const end = line_.data() + line_.size();
    const auto result = std::from_chars(line_.data(), end, left_, 16);
    line_.clear();
    return result.ec == std::errc{};
  }

  State state_ = State::head;
  std::string head_;
  std::string line_;
  std::size_t left_ = 0;
  int status_ = 0;
  bool closes_ = false;
};

// One keep-alive connection. idle ─► sending ─► receiving ─► idle
struct Connection {
  int fd = -1;
  bool busy = false;
  bool wants_write = false;
  std::size_t sent = 0;
  ReplyParser parser;
  std::int64_t due = 0;         // when the request should have gone out
  std::int64_t last_piece = 0;  // when the body's latest piece came; 0: none yet
  std::uint64_t length = 0;     // of the body so far
  bool differs = false;
  std::array<char, 64> tail{};
  std::size_t tail_size = 0;
  std::string sample;  // the start of the body, to show what went wrong

  void begin(std::int64_t when) {
    busy = true;
    sent = 0;
    due = when;
    last_piece = 0;
    length = 0;
    differs = false;
    tail_size = 0;
    sample.clear();
    parser.begin();
  }

  void keep_tail(std::string_view bytes) {
    if (bytes.size() >= tail.size()) {
      std::copy(bytes.end() - tail.size(), bytes.end(), tail.begin());
      tail_size = tail.size();
      return;
    }
    const auto keep = std::min(tail_size, tail.size() - bytes.size());
    std::copy(tail.begin() + tail_size - keep, tail.begin() + tail_size, tail.begin());
    std::copy(bytes.begin(), bytes.end(), tail.begin() + keep);
    tail_size = keep + bytes.size();
  }
};

class Generator {
 public:
  explicit Generator(Options options) : options_(std::move(options)) {
    request_ = "POST " + options_.path +
               " HTTP/1.1\r\nhost: 127.0.0.1:" + std::to_string(options_.port) +
               "\r\nuser-agent: bench/1.0\r\naccept: */*\r\ncontent-type: application/json\r\n" +
               options_.headers + "content-length: " + std::to_string(options_.body.size()) +
               "\r\n\r\n" + options_.body;
    if (!options_.vary.empty()) varied_at_ = request_.find(options_.vary);
    epoll_ = epoll_create1(0);
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, timer_, &event);
    connections_ = std::vector<Connection>(static_cast<std::size_t>(options_.connections));
  }

  int run() {
    for (auto& connection : connections_) open(connection);
    start_ = now_ns();
    const auto seconds_end = start_ + static_cast<std::int64_t>(options_.seconds * 1e9);
    const auto give_up = seconds_end + 15'000'000'000;
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      if (options_.rate > 0) {
        free_.push_back(&connections_[i]);
      } else {
        const auto offset = options_.stagger_ms * 1e6 * static_cast<double>(i) /
                            static_cast<double>(connections_.size());
        starts_.push_back({start_ + static_cast<std::int64_t>(offset), &connections_[i]});
      }
    }
    std::array<epoll_event, 256> events;
    while (true) {
      const auto now = now_ns();
      if (now >= seconds_end || sent_ >= options_.requests) stopping_ = true;
      if (stopping_ && busy_ == 0) break;
      if (now >= give_up) {
        note_error(timeouts_, "no reply in time", nullptr);
        break;
      }
      send_due(now);
      if (options_.hold && begun_ == connections_.size()) return hold();
      arm_timer(stopping_ ? give_up : std::min(seconds_end, next_due()));
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 1000);
      for (int i = 0; i < count; ++i) {
        if (auto* connection = static_cast<Connection*>(events[i].data.ptr)) {
          on_ready(*connection, events[i].events);
        } else {
          std::uint64_t expirations = 0;
          if (read(timer_, &expirations, sizeof expirations) < 0 && errno != EAGAIN) die("timer");
        }
      }
    }
    print();
    return 0;
  }

 private:
  struct Start {
    std::int64_t due;
    Connection* connection;
  };

  void open(Connection& connection) {
    connection.fd = socket(AF_INET, SOCK_STREAM, 0);
    const auto address = loopback(options_.port);
    if (connect(connection.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address))
      die("connect");
    fcntl(connection.fd, F_SETFL, O_NONBLOCK);
    no_delay(connection.fd);
    connection.wants_write = false;
    epoll_event event{.events = EPOLLIN, .data = {.ptr = &connection}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
  }

  std::int64_t next_due() const {
    if (!starts_.empty()) return starts_.front().due;
    if (options_.rate > 0 && !free_.empty()) return scheduled(sent_);
    return std::numeric_limits<std::int64_t>::max();
  }

  std::int64_t scheduled(std::uint64_t n) const {
    return start_ + static_cast<std::int64_t>(static_cast<double>(n) * 1e9 / options_.rate);
  }

  void send_due(std::int64_t now) {
    while (!stopping_ && !starts_.empty() && starts_.front().due <= now) {
      auto& connection = *starts_.front().connection;
      starts_.pop_front();
      send_next(connection, now_ns());
    }
    while (!stopping_ && options_.rate > 0 && !free_.empty() && scheduled(sent_) <= now) {
      auto& connection = *free_.back();
      free_.pop_back();
      send_next(connection, scheduled(sent_));
    }
  }

  void send_next(Connection& connection, std::int64_t due) {
    if (sent_ >= options_.requests) {
      stopping_ = true;
      return;
    }
    ++sent_;
    ++busy_;
    if (!reference_from_) reference_from_ = &connection;
    connection.begin(due);
    if (varied_at_ != std::string::npos) vary();
    send_rest(connection);
  }

  // The number of this request, in letters; no run begins where another has been.
  void vary() {
    static const auto from = static_cast<std::uint64_t>(std::time(nullptr)) * 1'000'000;
    auto left = from + static_cast<std::uint64_t>(sent_);
    for (std::size_t i = options_.vary.size(); i-- > 0; left /= 26) {
      request_[varied_at_ + i] = static_cast<char>('a' + static_cast<char>(left % 26));
    }
  }

  void send_rest(Connection& connection) {
    while (connection.sent < request_.size()) {
      const auto n = send(connection.fd, request_.data() + connection.sent,
                          request_.size() - connection.sent, MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EAGAIN) return want_write(connection, true);
        return fail(connection, io_errors_, "write failed");
      }
      connection.sent += static_cast<std::size_t>(n);
    }
    want_write(connection, false);
  }

  void want_write(Connection& connection, bool on) {
    if (connection.wants_write == on) return;
    connection.wants_write = on;
    epoll_event event{.events = EPOLLIN | (on ? EPOLLOUT : 0u), .data = {.ptr = &connection}};
    epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
  }

  void on_ready(Connection& connection, std::uint32_t events) {
    if (events & EPOLLOUT) send_rest(connection);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    const auto n = recv(connection.fd, scratch_.data(), scratch_.size(), 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0)
      return fail(connection, io_errors_,
                  connection.busy ? "closed in the middle" : "closed while idle");
    if (!connection.busy) return fail(connection, io_errors_, "bytes nobody asked for");
    const std::string_view bytes(scratch_.data(), static_cast<std::size_t>(n));
    bool has_body = false;
    const auto outcome = connection.parser.feed(bytes, [&](std::string_view piece) {
      has_body = true;
      take_body(connection, piece);
    });
    if (has_body) note_arrival(connection);
    if (outcome == ReplyParser::Outcome::done) finish(connection);
    if (outcome == ReplyParser::Outcome::broken) fail(connection, io_errors_, "not HTTP");
  }

  void take_body(Connection& connection, std::string_view piece) {
    if (connection.sample.size() < 300) connection.sample.append(piece.substr(0, 300));
    if (!has_reference_) {
      // Replies that come before the first connection's first one ends are compared by length
      // alone.
      if (&connection == reference_from_) first_body_.append(piece);
    } else if (options_.same && (connection.length + piece.size() > reference_.size() ||
                                 std::memcmp(reference_.data() + connection.length, piece.data(),
                                             piece.size()) != 0)) {
      connection.differs = true;
    }
    connection.length += piece.size();
    connection.keep_tail(piece);
  }

  void note_arrival(Connection& connection) {
    const auto now = now_ns();
    if (connection.last_piece == 0) {
      first_byte_.add(now - connection.due);
      ++begun_;
    } else {
      gaps_.add(now - connection.last_piece);
    }
    connection.last_piece = now;
  }

  void finish(Connection& connection) {
    const auto now = now_ns();
    latency_.add(now - connection.due);
    if (&connection == reference_from_ && !has_reference_) {
      has_reference_ = true;
      reference_ = std::move(first_body_);
    }
    const std::string_view tail(connection.tail.data(), connection.tail_size);
    if (connection.parser.status() != 200) {
      note_error(bad_status_, "status " + std::to_string(connection.parser.status()), &connection);
    } else if (!tail.ends_with(options_.end)) {
      note_error(bad_body_, "does not end as it should", &connection);
    } else if (options_.same &&
               (connection.differs || (has_reference_ && connection.length != reference_.size()))) {
      note_error(bad_body_, "differs from the first reply", &connection);
    } else {
      ++ok_;
    }
    bytes_ += connection.length;
    shortest_ = std::min(shortest_, connection.length);
    longest_ = std::max(longest_, connection.length);
    --busy_;
    connection.busy = false;
    if (connection.parser.closes()) {
      ++reconnects_;
      close(connection.fd);
      open(connection);
    }
    if (options_.rate > 0) {
      free_.push_back(&connection);
    } else if (!stopping_ &&
               now_ns() - start_ < static_cast<std::int64_t>(options_.seconds * 1e9)) {
      send_next(connection, now_ns());
    }
  }

  void fail(Connection& connection, std::uint64_t& counter, const char* what) {
    if (connection.busy) {
      --busy_;
      note_error(counter, what, &connection);
    } else {
      ++reconnects_;
    }
    connection.busy = false;
    if (&connection == reference_from_) first_body_.clear();
    close(connection.fd);
    if (io_errors_ > 1000) {
      stopping_ = true;  // nothing but errors: say so and leave
      return;
    }
    open(connection);
    if (options_.rate > 0) {
      free_.push_back(&connection);
    } else {
      starts_.push_back({now_ns(), &connection});
    }
  }

  void note_error(std::uint64_t& counter, const std::string& what, const Connection* connection) {
    ++counter;
    if (first_error_.empty()) first_error_ = what + (connection ? ": " + connection->sample : "");
  }

  void arm_timer(std::int64_t when) {
    if (when == armed_) return;
    armed_ = when;
    itimerspec spec{};
    when = std::max<std::int64_t>(when, 1);
    if (when != std::numeric_limits<std::int64_t>::max())
      spec.it_value = {when / 1'000'000'000, when % 1'000'000'000};
    timerfd_settime(timer_, TFD_TIMER_ABSTIME, &spec, nullptr);
  }

  int hold() {
    std::printf("held %zu\n", connections_.size());
    std::fflush(stdout);
    char byte = 0;
    while (read(STDIN_FILENO, &byte, 1) > 0) continue;
    return 0;
  }

  void print() {
    const double seconds = static_cast<double>(now_ns() - start_) / 1e9;
    std::printf(
        R"({"ok":%llu,"bad_status":%llu,"bad_body":%llu,"io_errors":%llu,"timeouts":%llu,"reconnects":%llu,)"
        R"("seconds":%.4f,"rate":%.1f,"bytes":%llu,"shortest":%llu,"longest":%llu,"hash":"%016llx",)"
        R"("latency_us":%s,"first_byte_us":%s,"gap_us":%s,"first_error":%s})"
        "\n",
        as_llu(ok_), as_llu(bad_status_), as_llu(bad_body_), as_llu(io_errors_), as_llu(timeouts_),
        as_llu(reconnects_), seconds, static_cast<double>(ok_) / seconds, as_llu(bytes_),
        as_llu(ok_ ? shortest_ : 0), as_llu(longest_), as_llu(fnv1a(reference_)),
        latency_.json().c_str(), first_byte_.json().c_str(), gaps_.json().c_str(),
        json_text(first_error_).c_str());
  }

  static unsigned long long as_llu(std::uint64_t n) { return n; }

  Options options_;
  std::string request_;
  std::size_t varied_at_ = std::string::npos;
  int epoll_ = -1;
  int timer_ = -1;
  std::int64_t armed_ = 0;
  std::vector<Connection> connections_;
  std::vector<Connection*> free_;  // open loop: without a request
  std::deque<Start> starts_;       // closed loop: not begun yet
  std::array<char, 262144> scratch_;
  std::int64_t start_ = 0;
  bool stopping_ = false;
  std::uint64_t sent_ = 0;
  std::uint64_t busy_ = 0;
  std::uint64_t begun_ = 0;
  std::string first_body_;
  std::string reference_;
  const Connection* reference_from_ = nullptr;  // whose first reply the others must equal
  bool has_reference_ = false;
  std::uint64_t ok_ = 0, bad_status_ = 0, bad_body_ = 0, io_errors_ = 0, timeouts_ = 0,
                reconnects_ = 0;
  std::uint64_t bytes_ = 0, shortest_ = ~0ULL, longest_ = 0;
  std::string first_error_;
  Samples latency_, first_byte_, gaps_;
};

std::string file_text(const char* name) {
  std::ifstream file(name, std::ios::binary);
  if (!file) die(name);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool read_options(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--same") {
      options.same = true;
      continue;
    }
    if (name == "--hold") {
      options.hold = true;
      continue;
    }
    if (++i == argc) return false;
    const char* const value = argv[i];
    if (name == "--port") {
      options.port = static_cast<std::uint16_t>(std::atoi(value));
    } else if (name == "--path") {
      options.path = value;
    } else if (name == "--body") {
      options.body = file_text(value);
    } else if (name == "--header") {
      options.headers += std::string(value) + "\r\n";
    } else if (name == "--connections") {
      options.connections = std::max(1, std::atoi(value));
    } else if (name == "--seconds") {
      options.seconds = std::atof(value);
    } else if (name == "--requests") {
      options.requests = std::strtoull(value, nullptr, 10);
    } else if (name == "--rate") {
      options.rate = std::atof(value);
    } else if (name == "--stagger-ms") {
      options.stagger_ms = std::atof(value);
    } else if (name == "--end") {
      options.end = value;
    } else if (name == "--vary") {
      options.vary = value;
    } else {
      return false;
    }
  }
  return options.port != 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  bench::prepare_process();
  bench::Options options;
  if (!bench::read_options(argc, argv, options)) {
    std::fprintf(stderr, "load_generator: see the head of load_generator.cc for the options\n");
    return 2;
  }
  const auto generator = std::make_unique<bench::Generator>(std::move(options));
  return generator->run();
}
