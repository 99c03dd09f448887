#include "server/server.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <future>

#include "tests_cpp/server/wire.h"

namespace llm_proxy::test {
namespace {

constexpr std::string_view kCompletion =
    R"({"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}})";
constexpr std::string_view kChunkHi =
    "data: "
    "{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":"
    "[{\"index\":0,"
    "\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
constexpr std::string_view kChunkEnd =
    "data: "
    "{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":"
    "[{\"index\":0,"
    "\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
constexpr std::string_view kChunkUsage =
    "data: "
    "{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":"
    "[],"
    "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\n";
constexpr std::string_view kDone = "data: [DONE]\n\n";

std::string post(std::string_view path, std::string_view body, std::string_view fields = {}) {
  return "POST " + std::string(path) + " HTTP/1.1\r\nhost: x\r\n" + std::string(fields) +
         "content-length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

// A running proxy on a free port with the given settings (JSON members, comma at the end).
class Proxy {
 public:
  explicit Proxy(const std::string& members) {
    const auto config =
        parse_server_config(R"({"port":0,"io_threads":1,"logging":{"access_log":false},)" +
                            members + "\"version\":\"test\"}");
    server_ = std::make_unique<Server>(config, PluginHosts{});
    const auto started = server_->start();
    EXPECT_TRUE(started) << started.error().message;
  }
  ~Proxy() { server_->join(); }

  Socket connect() const { return Socket::connect(server_->port()); }
  Server& server() const { return *server_; }

 private:
  std::unique_ptr<Server> server_;
};

std::string chat_backend(const Upstream& upstream, std::string_view name = "up") {
  return "{\"name\":\"" + std::string(name) + "\",\"base_url\":\"" + upstream.url() +
         "\",\"auth_header\":\"authorization\",\"auth_prefix\":\"Bearer "
         "\",\"keys\":[\"sk-secret-upstream\"]}";
}

std::string one(const Upstream& upstream) {
  return "\"backends\":[" + chat_backend(upstream) + "],";
}

const std::string kEcho = R"("backends":[{"name":"echo","kind":"echo"}],)";
constexpr std::string_view kChat =
    R"({"model":"m","messages":[{"role":"user","content":"hello there"}]})";
constexpr std::string_view kChatStream =
    R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hello there"}]})";

TEST(Server, echoes_in_chat_format_without_any_provider) {
  const Proxy proxy(kEcho);
  auto client = proxy.connect();
  client.send(post("/v1/chat/completions", kChat));
  const auto [head, body] = client.read_message();
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200")) << head;
  EXPECT_NE(body.find("hello there"), std::string::npos) << body;
  // The same connection serves the next request.
  client.send(post("/v1/chat/completions", kChatStream));
  const auto [stream_head, stream] = client.read_message();
  EXPECT_NE(stream_head.find("text/event-stream"), std::string::npos);
  EXPECT_TRUE(stream.ends_with(kDone)) << stream;
}

TEST(Server, relays_a_chat_reply_and_changes_nothing_but_credentials) {
  std::promise<std::string> seen;
  const Upstream upstream([&](Socket& socket) {
    auto [head, body] = socket.read_message();
    seen.set_value(head + body);
    socket.send(http_reply(200, "application/json", kCompletion));
    socket.read_all();
  });
  const Proxy proxy(one(upstream) + R"("auth":{"api_keys":["client-key"]},)");
  auto client = proxy.connect();
  client.send(
      post("/v1/chat/completions", kChat, "authorization: Bearer client-key\r\nx-custom: 1\r\n"));
  EXPECT_EQ(client.read_message().second, kCompletion);
  const auto request = seen.get_future().get();
  EXPECT_NE(request.find(kChat), std::string::npos) << request;
  EXPECT_NE(request.find("authorization: Bearer sk-secret-upstream\r\n"), std::string::npos)
      << request;
  EXPECT_NE(request.find("x-custom: 1\r\n"), std::string::npos) << request;
  EXPECT_EQ(request.find("client-key"), std::string::npos) << request;
}

TEST(Server, refuses_a_wrong_or_missing_key_in_each_dialect) {
  const Proxy proxy(kEcho + R"("auth":{"api_keys":["client-key"]},)");
  struct Case {
    std::string_view path, fields, expected;
  };
  for (const auto& [path, fields, expected] : {
           Case{"/v1/chat/completions", "", R"("code":"invalid_api_key")"},
           Case{"/v1/chat/completions", "authorization: Bearer client-ke\r\n",
                R"("code":"invalid_api_key")"},
           Case{"/v1/messages", "x-api-key: wrong\r\n", R"("type":"authentication_error")"},
           Case{"/v1beta/models/m:generateContent", "x-goog-api-key: wrong\r\n",
                R"("status":"UNAUTHENTICATED")"},
       }) {
    auto client = proxy.connect();
    client.send(post(path, kChat, fields));
    const auto [head, body] = client.read_message();
    EXPECT_TRUE(head.starts_with("HTTP/1.1 401")) << head;
    EXPECT_NE(body.find(expected), std::string::npos) << body;
  }
  for (const auto fields : {"authorization: Bearer client-key\r\n", "x-api-key: client-key\r\n",
                            "x-goog-api-key: client-key\r\n"}) {
    auto client = proxy.connect();
    client.send(post("/v1/chat/completions", kChat, fields));
    EXPECT_TRUE(client.read_message().first.starts_with("HTTP/1.1 200")) << fields;
  }
  auto client = proxy.connect();
  client.send(post("/v1/chat/completions?key=client-key", kChat));
  EXPECT_TRUE(client.read_message().first.starts_with("HTTP/1.1 200"));
}

TEST(Server, passes_a_stream_verbatim_and_keeps_unasked_usage_to_itself) {
  const Upstream upstream([&](Socket& socket) {
    const auto body = socket.read_message().second;
    EXPECT_NE(body.find("\"include_usage\":true"), std::string::npos) << body;
    socket.send(kStreamHead);
    for (const auto piece : {kChunkHi, kChunkEnd, kChunkUsage, kDone}) socket.send(chunk(piece));
    socket.send("0\r\n\r\n");
    socket.read_all();
  });
  const Proxy proxy(one(upstream));
  auto client = proxy.connect();
  client.send(post("/v1/chat/completions", kChatStream));
  EXPECT_EQ(client.read_message().second,
            std::string(kChunkHi) + std::string(kChunkEnd) + std::string(kDone));
  client.send(
      post("/v1/chat/completions",
           R"({"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]})"));
}

TEST(Server, never_ends_a_cut_stream_as_if_it_were_finished) {
  const Upstream upstream([&](Socket& socket) {
    socket.read_message();
    socket.send(std::string(kStreamHead) + chunk(kChunkHi));
    socket.close();
  });
  const Proxy proxy(one(upstream));
  auto client = proxy.connect();
  client.send(post("/v1/chat/completions", kChatStream));
  const auto body = client.read_message().second;
  EXPECT_NE(body.find("\"error\""), std::string::npos) << body;
  EXPECT_EQ(body.find("[DONE]"), std::string::npos) << body;
  EXPECT_TRUE(body.ends_with("<cut>")) << body;
}

TEST(Server, resets_the_connection_of_a_client_that_could_take_a_cut_for_an_end) {
  const Upstream upstream([&](Socket& socket) {
    socket.read_message();
    socket.send(std::string(kStreamHead) + chunk(kChunkHi));
    socket.close();
  });
  const Proxy proxy(one(upstream));
  auto client = proxy.connect();
  client.send("POST /v1/chat/completions HTTP/1.0\r\nhost: x\r\ncontent-length: " +
              std::to_string(kChatStream.size()) + "\r\n\r\n" + std::string(kChatStream));
  bool reset = false;
  const auto heard = client.read_all(&reset);
  EXPECT_TRUE(reset) << heard;
  EXPECT_EQ(heard.find("[DONE]"), std::string::npos) << heard;
}

TEST(Server, tries_the_next_backend_while_nothing_was_said) {
  const Upstream broken([&](Socket& socket) {
    socket.read_message();
    socket.send(std::string(kStreamHead) +
                chunk("data: {\"error\":{\"message\":\"overloaded\"}}\n\n") + "0\r\n\r\n");
    socket.read_all();
  });
  const Upstream good([&](Socket& socket) {
    socket.read_message();
    socket.send(std::string(kStreamHead) + chunk(kChunkHi) + chunk(kChunkEnd) + chunk(kDone) +
                "0\r\n\r\n");
    socket.read_all();
  });
  auto first = chat_backend(broken, "a");
  auto second = chat_backend(good, "b");
  first.insert(first.size() - 1, R"(,"models":["m"])");
  second.insert(second.size() - 1, R"(,"models":["m"])");
  const Proxy proxy("\"backends\":[" + first + "," + second + "],");
  auto client = proxy.connect();
  client.send(post("/v1/chat/completions", kChatStream));
  EXPECT_EQ(client.read_message().second,
            std::string(kChunkHi) + std::string(kChunkEnd) + std::string(kDone));
}

TEST(Server, asks_again_on_a_fresh_connection_when_a_kept_one_has_died) {
  std::atomic<int> requests{0};
  const Upstream upstream([&](Socket& socket) {
    socket.read_message();
    ++requests;
    socket.send(http_reply(200, "application/json", kCompletion));
    // Takes the next request and dies without a word, once.
    if (requests == 1) {
      socket.read_until("\r\n\r\n");
      socket.reset();
    } else {
      socket.read_all();
    }
  });
  const Proxy proxy(one(upstream));
  auto client = proxy.connect();
  for (int i = 0; i < 2; ++i) {
    client.send(post("/v1/chat/completions", kChat));
    EXPECT_EQ(client.read_message().second, kCompletion) << i;
  }
  EXPECT_EQ(upstream.connections(), 2);
}

TEST(Server, closes_the_upstream_when_the_client_leaves_in_any_phase) {
  for (const bool mid_stream : {false, true}) {
    std::promise<void> asked;
    std::promise<void> closed;
    const Upstream upstream([&](Socket& socket) {
      socket.read_message();
      if (mid_stream) socket.send(std::string(kStreamHead) + chunk(kChunkHi));
      asked.set_value();
      socket.read_all();
      closed.set_value();
    });
    const Proxy proxy(one(upstream));
    auto client = proxy.connect();
    client.send(post("/v1/chat/completions", kChatStream));
    asked.get_future().wait();
    if (mid_stream) client.read_until("hi");
    client.reset();
    EXPECT_EQ(closed.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
  }
}

TEST(Server, says_what_is_wrong_with_a_bad_request_and_serves_the_next) {
  const Proxy proxy(kEcho + R"("limits":{"body_bytes":1000},)");
  struct Case {
    std::string request;
    std::string_view status;
  };
  for (const auto& [request, status] : {
           Case{post("/v1/chat/completions", "{\"model\":"), "400"},
           Case{post("/v1/chat/completions", "[]"), "400"},
           Case{post("/v1/messages", "not json"), "400"},
           Case{post("/v1/chat/completions", R"({"model":"m","messages":"x"})"), "400"},
           Case{post("/nowhere", "{}"), "404"},
           Case{"GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n", "405"},
           Case{post("/v1/chat/completions", std::string(2000, ' ')), "413"},
           Case{"GET /" + std::string(40'000, 'a') + " HTTP/1.1\r\nhost: x\r\n\r\n", "431"},
           Case{"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n"
                "transfer-encoding: chunked\r\n\r\n",
                "400"},
           Case{"GET /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: "
                "websocket\r\n\r\n",
                "426"},
           Case{"GARBAGE\r\n\r\n", "400"},
       }) {
    auto client = proxy.connect();
    client.send(request);
    const auto [head, body] = client.read_message();
    EXPECT_TRUE(head.starts_with("HTTP/1.1 " + std::string(status)))
        << request.substr(0, 60) << "\n"
        << head;
    EXPECT_NE(body.find("error"), std::string::npos) << body;
  }
  auto client = proxy.connect();
  client.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
  EXPECT_TRUE(client.read_message().first.starts_with("HTTP/1.1 200"));
}

TEST(Server, answers_pipelined_requests_in_order) {
  const Proxy proxy(kEcho);
  auto client = proxy.connect();
  std::string requests;
  for (int i = 0; i < 50; ++i) requests += "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
  client.send(requests);
  for (int i = 0; i < 50; ++i)
    EXPECT_TRUE(client.read_message().first.starts_with("HTTP/1.1 200")) << i;
}

TEST(Server, survives_garbage_from_an_upstream) {
  for (const std::string_view garbage :
       {"\x16\x03\x01garbage", "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "",
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"}) {
    const Upstream upstream([&](Socket& socket) {
      socket.read_message();
      socket.send(garbage);
    });
    const Proxy proxy(one(upstream));
    auto client = proxy.connect();
    client.send(post("/v1/chat/completions", kChat));
    const auto [head, body] = client.read_message();
    EXPECT_TRUE(head.starts_with("HTTP/1.1 502")) << garbage << "\n" << head;
    EXPECT_NE(body.find("\"error\""), std::string::npos) << body;
  }
}

TEST(Server, never_shows_an_upstream_key_to_a_client) {
  const Upstream upstream([&](Socket& socket) {
    while (!socket.read_message().first.empty()) {
      socket.send(http_reply(
          401, "application/json",
          R"({"error":{"message":"bad key sk-secret-upstream","type":"x","param":null,"code":null}})"));
    }
  });
  const Proxy proxy(one(upstream));
  for (const auto path : {"/v1/chat/completions", "/v1/messages"}) {
    auto client = proxy.connect();
    client.send(
        post(path, R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]})"));
    const auto [head, body] = client.read_message();
    EXPECT_TRUE(head.starts_with("HTTP/1.1 401")) << head;
    EXPECT_EQ((head + body).find("sk-secret"), std::string::npos) << body;
  }
}

TEST(Server, drains_what_is_under_way_and_then_ends) {
  std::promise<void> asked;
  std::promise<void> go;
  auto may_go = go.get_future();
  const Upstream upstream([&](Socket& socket) {
    socket.read_message();
    asked.set_value();
    may_go.wait();
    socket.send(http_reply(200, "application/json", kCompletion));
    socket.read_all();
  });
  Proxy proxy(one(upstream));
  auto idle = proxy.connect();
  auto client = proxy.connect();
  client.send(post("/v1/chat/completions", kChat));
  asked.get_future().wait();
  std::promise<void> drained;
  proxy.server().drain(std::chrono::seconds(10), [&] { drained.set_value(); });
  EXPECT_EQ(idle.read_all(), "");
  go.set_value();
  EXPECT_EQ(client.read_message().second, kCompletion);
  client.close();
  EXPECT_EQ(drained.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
}

std::string two(const Upstream& first, const Upstream& second) {
  return "\"backends\":[" + chat_backend(first, "first") + "," + chat_backend(second, "second") +
         R"(],"failover_routes":{"m":{"elements":["first:m","second:m"]}},)";
}

TEST(Server, fails_over_although_a_keep_alive_has_already_begun_the_stream) {
  std::promise<void> heard;
  auto waiting = heard.get_future().share();
  const Upstream refusing([waiting](Socket& socket) {
    socket.read_message();
    waiting.wait_for(std::chrono::seconds(5));
    socket.send(http_reply(401, "application/json", R"({"error":{"message":"no"}})"));
    socket.read_all();
  });
  const Upstream healthy([](Socket& socket) {
    socket.read_message();
    socket.send(std::string(kStreamHead) + chunk(kChunkHi) + chunk(kChunkEnd) + chunk(kChunkUsage) +
                chunk(kDone) + "0\r\n\r\n");
    socket.read_all();
  });
  const Proxy proxy(two(refusing, healthy) + R"("timeouts":{"keep_alive":0.05},)");
  auto client = proxy.connect();
  client.send(post("/v1/chat/completions", kChatStream));
  EXPECT_NE(client.read_until(": keep-alive\n\n"), "");
  heard.set_value();
  const auto rest = client.read_until(kDone);
  EXPECT_NE(rest.find(R"("content":"hi")"), std::string::npos) << rest;
  EXPECT_EQ(rest.find("HTTP/1.1"), std::string::npos) << "one head: " << rest;
  EXPECT_EQ(rest.find("error"), std::string::npos) << rest;
}

TEST(Server, asks_nobody_again_when_the_client_leaves_during_a_wait) {
  std::promise<void> asked;
  const Upstream limited([&](Socket& socket) {
    socket.read_message();
    socket.send("HTTP/1.1 429 Slow\r\nretry-after: 4\r\ncontent-length: 2\r\n\r\n{}");
    asked.set_value();
    socket.read_all();
  });
  const Proxy proxy(one(limited));
  {
    auto client = proxy.connect();
    client.send(post("/v1/chat/completions", kChat));
    asked.get_future().wait();
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  while (proxy.server().stats().active > 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(proxy.server().stats().active, 0u) << "the wait was four seconds";
  EXPECT_EQ(limited.connections(), 1);
  const auto health = proxy.server().health();
  ASSERT_EQ(health.size(), 1u);
  ASSERT_EQ(health[0].keys.size(), 1u);
  EXPECT_EQ(health[0].keys[0].asked, 1u);
}

TEST(Server, translates_messages_to_a_chat_upstream) {
  const Upstream upstream([&](Socket& socket) {
    EXPECT_TRUE(socket.read_message().first.starts_with("POST /v1/chat/completions "));
    socket.send(std::string(kStreamHead) + chunk(kChunkHi) + chunk(kChunkEnd) + chunk(kChunkUsage) +
                chunk(kDone) + "0\r\n\r\n");
    socket.read_all();
  });
  const Proxy proxy(one(upstream));
  auto client = proxy.connect();
  client.send(post(
      "/v1/messages",
      R"({"model":"m","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"x"}]})"));
  const auto [head, body] = client.read_message();
  EXPECT_TRUE(body.starts_with("event: message_start\n")) << body;
  EXPECT_NE(body.find("\"text\":\"hi\""), std::string::npos) << body;
  EXPECT_NE(body.find("event: message_stop"), std::string::npos) << body;
}

}  // namespace
}  // namespace llm_proxy::test
