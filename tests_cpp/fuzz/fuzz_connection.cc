// One worker of the engine with clients, upstreams, ring plugins and Python backends in memory. The
// input is a script: who says, takes, ends or decides what, when time passes, when a handler runs.
// Whatever the order, nobody touches memory that is not theirs, and when all is over no connection
// and no exchange is left.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>

#include "config/snapshot.h"
#include "net/proxy_rules.h"
#include "net/resolver.h"
#include "server/worker_context.h"
#include "session/client_session.h"
#include "tests_cpp/fuzz/connection_words.h"
#include "tests_cpp/fuzz/memory_stream.h"
#include "tests_cpp/fuzz/scripted_hosts.h"

namespace llm_proxy::fuzz {
namespace {

using MemoryPtr = boost::intrusive_ptr<MemoryStream>;

constexpr std::size_t kMaxSteps = 300;
constexpr int kMaxHandlers = 50'000;  // of one run: beyond it the engine keeps itself busy
constexpr std::size_t kMaxClients = 6;

std::shared_ptr<const ServerConfig> config_with(const std::string& members,
                                                const std::string& limits = "") {
  return parse_server_config(
      R"({"version":"fuzz","logging":{"access_log":true},"counting":{"exact":true},)" + members +
      R"("limits":{"body_bytes":100000)" + limits + R"(},"backends":[
        {"name":"up","base_url":"http://up.test/v1","auth_header":"authorization",
         "auth_prefix":"Bearer ","keys":["secret-one","secret-two"]},
        {"name":"claude","format":"anthropic-messages","base_url":"http://claude.test","keys":["k"],
         "auth_header":"x-api-key"},
        {"name":"gem","format":"gemini-generate","base_url":"http://gem.test","keys":["k"],
         "auth_header":"x-goog-api-key"},
        {"name":"resp","format":"openai-responses","base_url":"http://resp.test/v1","keys":["k"]},
        {"name":"lent","base_url":"http://lent.test/v1","auth_header":"authorization",
         "hosted_key":true},
        {"name":"py","kind":"python"},
        {"name":"echo","kind":"echo"}],"default_backend":"up"})");
}

// The configurations a script may publish.
const std::shared_ptr<const ServerConfig>& config(std::size_t which) {
  static const std::array kConfigs{
      config_with(""),
      config_with(R"("auth":{"api_keys":["key"]},"timeouts":{"keep_alive":1,"client_body":2},)"),
      config_with(R"("failure_handling":{"enabled":false},)", R"(,"head_bytes":1000)"),
  };
  return kConfigs[which % kConfigs.size()];
}

AccessLog& log() {
  static AccessLog log;
  static const bool opened = static_cast<bool>(log.open("/dev/null"));
  if (!opened) std::abort();
  return log;
}

// Bytes of the input, then zeros.
class Script {
 public:
  explicit Script(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool over() const { return bytes_.empty(); }
  std::size_t byte() {
    if (bytes_.empty()) return 0;
    const std::size_t byte = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return byte;
  }
  std::string_view text(std::size_t size) {
    size = std::min(size, bytes_.size());
    const std::string_view out(reinterpret_cast<const char*>(bytes_.data()), size);
    bytes_ = bytes_.subspan(size);
    return out;
  }
  // A piece of one of `words`: which, from and to where in 255ths.
  std::string_view piece(const std::vector<std::string>& words) {
    const std::string_view word = words[byte() % words.size()];
    const auto from = word.size() * byte() / 255;
    const auto to = word.size() * byte() / 255;
    return from < to ? word.substr(from, to - from) : word.substr(from);
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

class World {
 public:
  World()
      : context_(worker_, environment(), build(0, 0), log(), seals_, responses_, chats_, models_,
                 memory_, [] { return ServerStats(); }) {}

  void step(Script& script);
  // Cuts what is left. Nothing may remain of it.
  void end();
  // Lets ready handlers run, at most so many.
  void run(int most = kMaxHandlers);

 private:
  struct Dial {
    UpstreamEnvironment::Dialled done;
  };

  std::shared_ptr<const UpstreamEnvironment> environment();
  std::shared_ptr<const Snapshot> build(std::size_t which, std::size_t rings);
  MemoryStream* client(Script& script) { return pick(clients_, script); }
  MemoryStream* upstream(Script& script) { return pick(upstreams_, script); }
  // Counted from the newest.
  static MemoryStream* pick(const std::vector<MemoryPtr>& streams, Script& script) {
    const auto back = script.byte();
    return streams.empty() ? nullptr : streams[streams.size() - 1 - back % streams.size()].get();
  }
  void connect(std::size_t how);
  void say(MemoryStream* stream, std::string_view bytes) {
    if (stream != nullptr) stream->say(bytes);
  }
  void end_of(MemoryStream* stream, std::size_t how);
  void settle_dial(Script& script);
  RingVerdict verdict(Script& script);
  void settle_ring(Script& script);
  void step_backend(Script& script);
  void pass(std::size_t what);

  VirtualClock clock_;
  Worker worker_{{0, &clock_, std::chrono::hours(1)}};
  std::vector<Dial> dials_;
  std::vector<MemoryPtr> clients_;
  std::vector<MemoryPtr> upstreams_;
  std::vector<std::shared_ptr<ScriptedRingSession>> rings_;
  std::shared_ptr<ScriptedBackends> backends_ = std::make_shared<ScriptedBackends>();
  std::optional<RingVerdict::Kind> at_once_;  // what rings say without being asked twice
  bool dials_at_once_ = true;
  std::shared_ptr<const Snapshot> snapshot_;
  SealStore seals_{{}};
  ResponseStore responses_{{}};
  SessionStore chats_;
  ModelCache models_;
  MemoryBudget memory_{1u << 20};  // so little that it is used up now and then
  WorkerContext context_;
};

std::shared_ptr<const UpstreamEnvironment> World::environment() {
  auto environment = std::make_shared<UpstreamEnvironment>();
  environment->resolver = std::make_shared<Resolver>(std::chrono::seconds(1));
  environment->proxies = *ProxyRules::make({});
  environment->dial = [this](const Endpoint&, UpstreamEnvironment::Dialled done) {
    dials_.push_back({std::move(done)});
    if (!dials_at_once_) return;
    Script zeros({});
    settle_dial(zeros);
  };
  return environment;
}

std::shared_ptr<const Snapshot> World::build(std::size_t which, std::size_t rings) {
  constexpr RingSet kAll{Ring::ingress, Ring::pre_flight, Ring::routing, Ring::post_flight,
                         Ring::background};
  constexpr RingSet kRequest{Ring::pre_flight};
  constexpr RingSet kReply{Ring::post_flight, Ring::background};
  struct Kind {
    RingSet rings;
    StreamRules rules;
  };
  static const std::array kKinds{Kind{}, Kind{kRequest, {}}, Kind{kAll, {true, true, false}},
                                 Kind{kReply, {false, true, true}},
                                 Kind{kAll, {true, false, true}}};
  const auto& kind = kKinds[rings % kKinds.size()];
  std::shared_ptr<RingHost> host;
  if (!kind.rings.empty()) {
    const auto at_once = [this](RingVerdict& verdict) {
      if (at_once_) verdict.kind = *at_once_;
      return at_once_.has_value();
    };
    host = std::make_shared<ScriptedRings>(kind.rings, kind.rules, at_once, rings_);
  }
  auto built = Snapshot::build(config(which), host, backends_, models_.index(), snapshot_.get());
  if (!built) std::abort();
  snapshot_ = *std::move(built);
  return snapshot_;
}

void World::run(int most) {
  worker_.io().restart();
  for (int ran = 0; ran < most; ++ran) {
    if (worker_.io().poll_one() == 0) return;
  }
  if (most == kMaxHandlers) std::abort();
}

void World::connect(std::size_t how) {
  if (clients_.size() >= kMaxClients) return;
  MemoryPtr stream(new MemoryStream(worker_, how % 2 == 0));
  clients_.push_back(stream);
  intrusive_ptr_add_ref(static_cast<ByteStream*>(stream.get()));
  context_.accept(StreamPtr(stream.get()), /*anthropic=*/how / 2 % 4 == 3);
}

void World::end_of(MemoryStream* stream, std::size_t how) {
  if (stream == nullptr) return;
  switch (how % 3) {
    case 0:
      return stream->finish();
    case 1:
      return stream->leave();
    default:
      return stream->cut();
  }
}

void World::settle_dial(Script& script) {
  const auto how = script.byte();
  if (dials_.empty()) return;
  auto done = std::move(dials_.front().done);
  dials_.erase(dials_.begin());
  if (how % 4 == 3) return done(Error{ErrorKind::upstream_unreachable, "the script says so"});
  MemoryPtr stream(new MemoryStream(worker_));
  upstreams_.push_back(stream);
  if (how % 4 == 2) stream->allow(10);
  intrusive_ptr_add_ref(static_cast<ByteStream*>(stream.get()));
  done(StreamPtr(stream.get()));
}

RingVerdict World::verdict(Script& script) {
  RingVerdict verdict;
  verdict.kind = static_cast<RingVerdict::Kind>(script.byte() % 4);
  if (verdict.kind == RingVerdict::Kind::block) verdict.status = 403;
  verdict.body = verdict_bodies()[script.byte() % verdict_bodies().size()];
  verdict.type = "plugin_block";
  verdict.message = "no";
  verdict.plugin = "fuzz";
  if (script.byte() % 4 == 1) verdict.placeholders["[NAME_1]"] = "hi";
  return verdict;
}

void World::settle_ring(Script& script) {
  const auto which = script.byte();
  auto given = verdict(script);
  if (rings_.empty()) return;
  const auto session = rings_[rings_.size() - 1 - which % rings_.size()];
  session->settle(std::move(given));
}

void World::step_backend(Script& script) {
  const auto which = script.byte();
  const auto what = script.byte() % 8;
  if (what == 7) {
    if (backends_->keys.empty()) return;
    const auto done = std::move(backends_->keys.front());
    backends_->keys.erase(backends_->keys.begin());
    if (which % 3 == 0) return done(Error{ErrorKind::unauthenticated, "the script says so"});
    return done(HostedKey{"lent-secret", which % 3 == 1 ? clock_.unix_millis() + 5000 : 0});
  }
  if (backends_->calls.empty()) return;
  const auto call = backends_->calls[backends_->calls.size() - 1 - which % backends_->calls.size()];
  switch (what) {
    case 0:
      return call->head(true, 200);
    case 1:
      return call->head(false, script.byte() % 2 == 0 ? 200 : 429);
    case 2:
      return call->data(delta(std::string(script.byte() * 256, 'x'), false));
    case 3:
      return call->data(delta("", true) + "data: [DONE]\n\n");
    case 4:
      return call->data(completion());
    case 5:
      return call->end();
    default:
      return call->fail();
  }
}

void World::pass(std::size_t what) {
  constexpr std::array<std::chrono::milliseconds, 6> kSpans{
      {std::chrono::milliseconds(50), std::chrono::milliseconds(1100), std::chrono::seconds(5),
       std::chrono::seconds(31), std::chrono::seconds(130), std::chrono::seconds(301)}};
  clock_.advance(kSpans[what % kSpans.size()]);
  worker_.check_deadlines();
}

void World::step(Script& script) {
  const auto step = script.byte();
  switch ((step & 0x7f) % 22) {
    case 0:
      connect(script.byte());
      break;
    case 1:
    case 2: {
      auto* to = client(script);
      say(to, script.piece(requests()));
      break;
    }
    case 3: {
      auto* to = client(script);
      say(to, script.text(script.byte()));
      break;
    }
    case 4: {
      auto* to = client(script);
      say(to, std::string(script.byte() << 9, 'A'));
      break;
    }
    case 5: {
      auto* which = client(script);
      end_of(which, script.byte());
      break;
    }
    case 6: {
      auto* which = client(script);
      const auto bytes = script.byte();
      if (which != nullptr) which->allow(bytes == 255 ? MemoryStream::kEndless : bytes * 32);
      break;
    }
    case 7:
      settle_dial(script);
      break;
    case 8:
      dials_at_once_ = script.byte() % 2 == 0;
      break;
    case 9:
    case 10:
    case 11: {
      auto* to = upstream(script);
      say(to, script.piece(replies()));
      break;
    }
    case 12: {
      auto* to = upstream(script);
      say(to, script.text(script.byte()));
      break;
    }
    case 13: {
      auto* to = upstream(script);
      say(to, chunk(delta(std::string(script.byte() << 8, 'x'), false)));
      break;
    }
    case 14: {
      auto* which = upstream(script);
      end_of(which, script.byte());
      break;
    }
    case 15: {
      auto* which = upstream(script);
      const auto bytes = script.byte();
      if (which != nullptr) which->allow(bytes == 255 ? MemoryStream::kEndless : bytes * 32);
      break;
    }
    case 16:
      run(static_cast<int>(script.byte()));
      break;
    case 17:
      pass(script.byte());
      break;
    case 18: {
      const auto which = script.byte();
      context_.publish(build(which % 4, which / 4));
      break;
    }
    case 19:
      settle_ring(script);
      break;
    case 20:
      step_backend(script);
      break;
    default: {
      const auto which = script.byte();
      if (which < 0xc0) {
        at_once_ = which % 2 == 0 ? std::nullopt
                                  : std::optional(static_cast<RingVerdict::Kind>(which / 2 % 4));
      } else if (which < 0xf0) {
        context_.pool().close_idle();
      } else if (which < 0xf8) {
        context_.cut_all();
      } else {
        context_.drain([] {});
      }
      break;
    }
  }
  // The high bit leaves what is ready to the steps that follow.
  if ((step & 0x80) == 0) run();
}

void World::end() {
  run();
  context_.cut_all();
  run();
  const auto& counters = context_.counters();
  if (counters.connections.load() != 0 || counters.active.load() != 0) std::abort();
  context_.sweep();
  if (memory_.used() != 0) std::abort();
}

}  // namespace
}  // namespace llm_proxy::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llm_proxy::fuzz;
  Script script({data, size});
  World world;
  for (std::size_t steps = 0; !script.over() && steps < kMaxSteps; ++steps) world.step(script);
  world.end();
  return 0;
}
