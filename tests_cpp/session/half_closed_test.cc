#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "config/snapshot.h"
#include "net/proxy_rules.h"
#include "net/resolver.h"
#include "server/worker_context.h"
#include "session/client_session.h"
#include "tests_cpp/fuzz/connection_words.h"
#include "tests_cpp/fuzz/memory_stream.h"

namespace llm_proxy {
namespace {

using boost::intrusive_ptr;
using fuzz::MemoryStream;
using std::chrono::milliseconds;

// A client and an upstream in memory, and one worker whose clock the test moves. `local`: the
// kernel can say what has become of the client's socket.
class Half {
 public:
  explicit Half(bool local) : client(new MemoryStream(worker_, local)) {
    context_.emplace(worker_, environment(), snapshot(), log_, seals_, responses_, chats_, models_,
                     memory_, [] { return ServerStats(); });
    context_->accept(owned(client));
  }
  ~Half() {
    context_->cut_all();
    context_.reset();
  }

  void run() {
    worker_.io().restart();
    worker_.io().poll();
  }
  void pass(milliseconds time) {
    clock_.advance(time);
    worker_.check_deadlines();
    run();
  }
  // Sends a chat request, and ends the direction once an upstream has been asked.
  void ask_and_finish(bool stream, std::string_view version = "1.1") {
    client->say(fuzz::post("/v1/chat/completions", fuzz::chat("m", stream), {}, version));
    run();
    client->finish();
    run();
  }
  MemoryStream& upstream() { return *upstreams.back(); }
  bool client_is_served() { return context_->counters().connections.load() == 1; }

 private:
  static StreamPtr owned(const intrusive_ptr<MemoryStream>& stream) {
    intrusive_ptr_add_ref(static_cast<ByteStream*>(stream.get()));
    return StreamPtr(stream.get());
  }
  std::shared_ptr<const UpstreamEnvironment> environment() {
    auto environment = std::make_shared<UpstreamEnvironment>();
    environment->resolver = std::make_shared<Resolver>(std::chrono::seconds(1));
    environment->proxies = *ProxyRules::make({});
    environment->dial = [this](const Endpoint&, UpstreamEnvironment::Dialled done) {
      upstreams.emplace_back(new MemoryStream(worker_));
      done(owned(upstreams.back()));
    };
    return environment;
  }
  std::shared_ptr<const Snapshot> snapshot() {
    const auto config = parse_server_config(
        R"({"logging":{"access_log":false},"backends":[{"name":"up","base_url":"http://up.test/v1"}]})");
    return *Snapshot::build(config, nullptr, nullptr, models_.index(), nullptr);
  }

  VirtualClock clock_;
  Worker worker_{{0, &clock_, std::chrono::hours(1)}};
  AccessLog log_;
  SealStore seals_{{}};
  ResponseStore responses_{{}};
  SessionStore chats_;
  ModelCache models_;
  MemoryBudget memory_{0};
  std::optional<WorkerContext> context_;

 public:
  intrusive_ptr<MemoryStream> client;
  std::vector<intrusive_ptr<MemoryStream>> upstreams;
};

TEST(HalfClosed, a_client_on_this_machine_gets_its_answer_and_nothing_else) {
  Half half(/*local=*/true);
  half.ask_and_finish(false);
  half.pass(milliseconds(1000));
  half.upstream().say(fuzz::reply("200 OK", fuzz::completion()));
  half.run();
  EXPECT_TRUE(half.client->heard().starts_with("HTTP/1.1 200 ")) << half.client->heard();
  EXPECT_TRUE(half.client->heard().ends_with(fuzz::completion()));
  EXPECT_FALSE(half.client_is_served());
}

TEST(HalfClosed, a_client_on_this_machine_that_closes_later_is_found_within_a_second) {
  Half half(/*local=*/true);
  half.ask_and_finish(false);
  EXPECT_TRUE(half.upstream().is_open());
  half.client->leave();
  half.pass(milliseconds(1000));
  EXPECT_FALSE(half.upstream().is_open());
}

TEST(HalfClosed, a_client_elsewhere_is_asked_with_an_interim_reply_and_gets_its_answer) {
  Half half(/*local=*/false);
  half.ask_and_finish(false);
  EXPECT_EQ(half.client->heard(), "HTTP/1.1 100 Continue\r\n\r\n");
  half.upstream().say(fuzz::reply("200 OK", fuzz::completion()));
  half.run();
  EXPECT_TRUE(half.client->heard().starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "));
  EXPECT_TRUE(half.client->heard().ends_with(fuzz::completion()));
}

TEST(HalfClosed, a_client_elsewhere_is_asked_again_with_every_keep_alive) {
  Half half(/*local=*/false);
  half.ask_and_finish(false);
  EXPECT_TRUE(half.upstream().is_open());
  half.client->leave();
  half.pass(milliseconds(10'000));
  EXPECT_FALSE(half.upstream().is_open());
}

TEST(HalfClosed, a_closed_client_elsewhere_resets_what_is_said_to_it_and_the_upstream_is_closed) {
  for (const bool begun : {false, true}) {
    Half half(/*local=*/false);
    half.client->say(fuzz::post("/v1/chat/completions", fuzz::chat("m", true)));
    half.run();
    if (begun) {
      half.upstream().say(fuzz::replies()[0] + fuzz::chunk(fuzz::delta("hi", false)));
      half.run();
      EXPECT_TRUE(half.client->heard().starts_with("HTTP/1.1 200 "));
    }
    half.client->leave();
    half.run();
    EXPECT_FALSE(half.upstream().is_open()) << (begun ? "in mid-stream" : "before the head");
    EXPECT_FALSE(half.client_is_served());
  }
}

TEST(HalfClosed, a_stream_that_has_begun_carries_its_sign_of_life) {
  Half half(/*local=*/false);
  half.client->say(fuzz::post("/v1/chat/completions", fuzz::chat("m", true)));
  half.run();
  half.upstream().say(fuzz::replies()[0] + fuzz::chunk(fuzz::delta("hi", false)));
  half.run();
  half.client->finish();
  half.run();
  EXPECT_TRUE(half.client->heard().ends_with(fuzz::chunk(": keep-alive\n\n")));
  EXPECT_TRUE(half.upstream().is_open());
}

TEST(HalfClosed, a_client_of_http_1_0_elsewhere_cannot_be_asked_and_counts_as_gone) {
  Half half(/*local=*/false);
  half.ask_and_finish(false, "1.0");
  EXPECT_EQ(half.client->heard(), "");
  EXPECT_FALSE(half.upstream().is_open());
}

}  // namespace
}  // namespace llm_proxy
