// What one client's bodies cost the others: time on the worker, and memory.

#include <gtest/gtest.h>
#include <zlib.h>

#include <condition_variable>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "hosting/admin_host.h"
#include "server/server.h"
#include "session/request_body.h"
#include "tests_cpp/server/wire.h"

namespace llm_proxy::test {
namespace {

std::string gzip_of_blanks(std::size_t size, std::string_view end) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  const std::string text = std::string(size, ' ').append(end);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

constexpr std::string_view kChat =
    R"({"model":"echo","messages":[{"role":"user","content":"hello"}]})";

std::string post(std::string_view body, std::string_view fields = {}) {
  return "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + std::string(fields) +
         "content-length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

std::string get(std::string_view path) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nhost: x\r\n\r\n";
}

// Keeps the one worker in a handler until the test lets it go: what was sent meanwhile is there all
// at once, in an order that does not depend on time.
class Gate final : public AdminHost {
 public:
  std::shared_ptr<void> call(AdminRequest, WorkerPost&, Done done) override {
    held_.set_value();
    go_.get_future().wait();
    done({.status = 200, .body = "{}"});
    return nullptr;
  }
  void wait_until_held() { held_.get_future().wait(); }
  void open() { go_.set_value(); }

 private:
  std::promise<void> held_, go_;
};

class Proxy {
 public:
  explicit Proxy(const std::string& members, std::shared_ptr<AdminHost> admin = nullptr) {
    const auto config = parse_server_config(
        R"({"port":0,"io_threads":1,"logging":{"access_log":false},"backends":[{"name":"echo","kind":"echo"}],)" +
        members + R"("version":"test"})");
    PluginHosts hosts;
    hosts.admin = std::move(admin);
    server_ = std::make_unique<Server>(config, std::move(hosts));
    const auto started = server_->start();
    EXPECT_TRUE(started) << started.error().message;
  }
  ~Proxy() { server_->join(); }
  Socket connect() const { return Socket::connect(server_->port()); }
  ServerStats stats() const { return server_->stats(); }

 private:
  std::unique_ptr<Server> server_;
};

std::uint64_t number(const std::string& text, std::string_view name) {
  const auto at = text.find("\"" + std::string(name) + "\":");
  EXPECT_NE(at, std::string::npos) << text;
  return at == std::string::npos ? 0
                                 : std::strtoull(text.c_str() + at + name.size() + 3, nullptr, 10);
}

TEST(ServerMemory, answers_others_between_the_slices_of_a_large_body) {
  constexpr std::size_t kSize = 32u << 20;
  constexpr std::uint64_t kSlices = kSize / RequestBody::kSlice;
  const auto gate = std::make_shared<Gate>();
  const Proxy proxy("", gate);
  auto admin = proxy.connect();
  auto heavy = proxy.connect();
  auto other = proxy.connect();
  // Both are known to the worker before it is held.
  for (Socket* socket : {&heavy, &other}) {
    socket->send(get("/health"));
    EXPECT_TRUE(socket->read_message().first.starts_with("HTTP/1.1 200"));
  }
  admin.send(get("/api/v1/plugins"));
  gate->wait_until_held();
  heavy.send(post(gzip_of_blanks(kSize, kChat), "content-encoding: gzip\r\n"));
  other.send(get("/v1/diagnostics"));
  gate->open();
  const auto seen = other.read_message().second;
  EXPECT_EQ(number(seen, "bodies_decoding"), 1u) << seen;
  EXPECT_LT(number(seen, "slices_decoded"), kSlices / 2) << "of " << kSlices;
  EXPECT_TRUE(heavy.read_message().first.starts_with("HTTP/1.1 200"));
  EXPECT_GE(proxy.stats().slices, kSlices);
  while (proxy.stats().decoding > 0) std::this_thread::yield();
}

TEST(ServerMemory, bodies_of_many_requests_take_turns) {
  const auto gate = std::make_shared<Gate>();
  const Proxy proxy("", gate);
  auto admin = proxy.connect();
  auto large = proxy.connect();
  auto small = proxy.connect();
  for (Socket* socket : {&large, &small}) {
    socket->send(get("/health"));
    socket->read_message();
  }
  admin.send(get("/api/v1/plugins"));
  gate->wait_until_held();
  large.send(post(gzip_of_blanks(32u << 20, kChat), "content-encoding: gzip\r\n"));
  small.send(post(gzip_of_blanks(1000, kChat), "content-encoding: gzip\r\n"));
  gate->open();
  EXPECT_TRUE(small.read_message().first.starts_with("HTTP/1.1 200"));
  EXPECT_EQ(proxy.stats().decoding, 1u) << "the small one waited for the large one";
  EXPECT_TRUE(large.read_message().first.starts_with("HTTP/1.1 200"));
}

TEST(ServerMemory, a_client_that_leaves_ends_the_decoding_of_its_body) {
  const auto gate = std::make_shared<Gate>();
  const Proxy proxy("", gate);
  auto admin = proxy.connect();
  {
    auto heavy = proxy.connect();
    admin.send(get("/api/v1/plugins"));
    gate->wait_until_held();
    heavy.send(post(gzip_of_blanks(60u << 20, kChat), "content-encoding: gzip\r\n"));
    heavy.reset();
    gate->open();
  }
  auto other = proxy.connect();
  for (;;) {
    other.send(get("/v1/diagnostics"));
    const auto seen = other.read_message().second;
    if (number(seen, "bodies_decoding") == 0) break;
  }
  EXPECT_EQ(proxy.stats().memory_used, 0u);
}

// Sends all but the last byte of a body of `size`, so that it stays in memory.
Socket holding(const Proxy& proxy, std::size_t size, std::string_view key) {
  auto socket = proxy.connect();
  socket.send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " +
              std::string(key) + "\r\ncontent-length: " + std::to_string(size + 1) + "\r\n\r\n");
  socket.send(std::string(size, ' '));
  return socket;
}

void wait_for(const Proxy& proxy, std::uint64_t used) {
  while (proxy.stats().memory_used < used) std::this_thread::yield();
}

TEST(ServerMemory, one_key_cannot_take_what_another_needs) {
  constexpr std::size_t kMiB = 1u << 20;
  const Proxy proxy(R"("auth":{"api_keys":["anna","bert"]},"limits":{"memory_bytes":16777216},)");
  std::vector<Socket> held;
  for (int i = 1; i <= 7; ++i) {
    held.push_back(holding(proxy, kMiB, "anna"));
    wait_for(proxy, static_cast<std::uint64_t>(i) * kMiB);
  }
  auto more = holding(proxy, 2 * kMiB, "anna");
  const auto [head, body] = more.read_message();
  EXPECT_TRUE(head.starts_with("HTTP/1.1 429")) << head;
  EXPECT_NE(head.find("retry-after: "), std::string::npos) << head;
  EXPECT_NE(body.find("memory_share"), std::string::npos) << body;

  auto other = proxy.connect();
  other.send(post(std::string(2 * kMiB, ' ').append(kChat), "authorization: Bearer bert\r\n"));
  EXPECT_TRUE(other.read_message().first.starts_with("HTTP/1.1 200"));
  EXPECT_GT(proxy.stats().memory_refused, 0u);

  held.clear();  // they leave: what they held is there again
  auto again = proxy.connect();
  while (proxy.stats().memory_used > 0) std::this_thread::yield();
  again.send(post(std::string(2 * kMiB, ' ').append(kChat), "authorization: Bearer anna\r\n"));
  EXPECT_TRUE(again.read_message().first.starts_with("HTTP/1.1 200"));
}

TEST(ServerMemory, health_is_answered_when_there_is_no_memory_left) {
  constexpr std::size_t kMiB = 1u << 20;
  const Proxy proxy(R"("auth":{"api_keys":["a","b","c","d"]},"limits":{"memory_bytes":4194304},)");
  std::vector<Socket> held;
  std::uint64_t used = 0;
  for (const auto& [key, size] : {std::pair("a", 2 * kMiB), {"b", kMiB}, {"c", kMiB / 2}}) {
    held.push_back(holding(proxy, size - 1, key));
    wait_for(proxy, used += size);
  }
  auto refused = holding(proxy, kMiB, "d");
  const auto [head, body] = refused.read_message();
  // Which of the two depends on how much of it had come before the rest did.
  EXPECT_TRUE(head.starts_with("HTTP/1.1 503") || head.starts_with("HTTP/1.1 429")) << head;
  EXPECT_NE(head.find("retry-after: "), std::string::npos) << head;
  EXPECT_NE(body.find("memory"), std::string::npos) << body;
  auto health = proxy.connect();
  health.send(get("/health"));
  EXPECT_TRUE(health.read_message().first.starts_with("HTTP/1.1 200"));
}

TEST(ServerMemory, a_compressed_body_that_would_never_fit_is_a_413) {
  const Proxy proxy(R"("limits":{"memory_bytes":8388608},)");
  auto client = proxy.connect();
  client.send(post(gzip_of_blanks(6u << 20, kChat), "content-encoding: gzip\r\n"));
  EXPECT_TRUE(client.read_message().first.starts_with("HTTP/1.1 413"));
  // The connection is of use, and nothing is held any more.
  client.send(post(kChat));
  EXPECT_TRUE(client.read_message().first.starts_with("HTTP/1.1 200"));
  EXPECT_LT(proxy.stats().memory_used, 1u << 10);
}

TEST(ServerMemory, a_reply_counts_for_the_client_that_asked) {
  const Upstream upstream([](Socket& socket) {
    socket.read_message();
    socket.send(http_reply(200, "application/json", R"({"x":")" + std::string(4u << 20, 'x')));
    socket.read_all();
  });
  const auto config = parse_server_config(
      R"({"port":0,"io_threads":1,"logging":{"access_log":false},"limits":{"memory_bytes":4194304},"version":"t",)"
      R"("backends":[{"name":"up","base_url":")" +
      upstream.url() + R"("}]})");
  Server server(config, PluginHosts{});
  ASSERT_TRUE(server.start());
  {
    auto client = Socket::connect(server.port());
    client.send(post(kChat));
    const auto [head, body] = client.read_message();
    EXPECT_TRUE(head.starts_with("HTTP/1.1 413") || head.starts_with("HTTP/1.1 429")) << head;
    EXPECT_NE(body.find("memory"), std::string::npos) << body;
    EXPECT_EQ(upstream.connections(), 1) << "asked again for what cannot be held";
  }
  server.join();
}

}  // namespace
}  // namespace llm_proxy::test
