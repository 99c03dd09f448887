#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "rings/native/chat_view.h"
#include "rings/native/endpoints.h"
#include "rings/native/reply_cache.h"
#include "rings/ring_host.h"

namespace llm_proxy {

// What the native plugins of a process share with the Python ones. Any thread.
struct NativeServices {
  std::shared_ptr<ReplyCache> cache;  // null: nothing is kept
  std::shared_ptr<EndpointStats> stats = std::make_shared<EndpointStats>();
  std::shared_ptr<EndpointPool> pool = std::make_shared<EndpointPool>();
  std::string secret;                       // of the tokens for personal data
  std::atomic<bool> blocks_domains{false};  // links are looked at: not natively
  std::atomic<bool> priority_mode{false};   // of the router
  std::atomic<std::uint64_t> turn{0};       // of the router, while it has learnt nothing
};

// One exchange as native plugins see it: what the request asks, what they have noted.
//
// Owned by a ring session; on the exchange's worker until the lane takes over, then read there.
class NativeExchange {
 public:
  using Note = std::variant<bool, double, std::string>;

  NativeExchange(RingRequest& request, NativeServices& services)
      : request_(request), services_(services) {}

  NativeServices& services() { return services_; }
  const RingRequest& request() const { return request_; }
  // Null: the request is for who reads JSON with all its oddities.
  const ChatRequestView* view();
  // Whether plugins can be shown the request: what ChatRequestView::read() says.
  Result<void> check();
  // Replaces texts of the request, in their order.
  void edit(const std::vector<std::pair<std::string_view, std::string>>& raw_texts);
  bool request_changed() const { return request_changed_; }
  // Whose personal data and whose cache this is: the client's key, or else its session.
  const std::string& tenant();
  // The request asked for its answer in a format.
  bool wants_format();

  // `name` is a literal.
  void note(const char* name, Note value) { notes_.emplace_back(name, std::move(value)); }
  const std::vector<std::pair<const char*, Note>>& notes() const { return notes_; }

  double now = 0;  // when the step began; seconds of the steady clock
  Placeholders placeholders;
  std::string cache_key;  // where the answer is to be kept; empty: nowhere
  RingVerdict verdict;    // of a step that says `stop`

 private:
  RingRequest& request_;
  NativeServices& services_;
  ChatRequestView view_;
  bool read_ = false, readable_ = false, request_changed_ = false;
  std::string tenant_;
  std::vector<std::pair<const char*, Note>> notes_;
};

// A reply as native plugins see it; read once for all of them.
class NativeReply {
 public:
  explicit NativeReply(RingReply& reply) : reply_(reply) {}

  const RingReply& reply() const { return reply_; }
  const ChatReplyView* view();
  void edit(const std::vector<std::pair<std::string_view, std::string>>& raw_texts);
  bool changed() const { return changed_; }

 private:
  RingReply& reply_;
  ChatReplyView view_;
  bool read_ = false, readable_ = false, changed_ = false;
};

// What a step says.
enum class NativeStep : std::uint8_t {
  done,    // whatever it had to do is done
  python,  // nothing is done: this is for the Python function it stands for, and so is what follows
  stop,    // the exchange's `verdict` is the chain's
};

// A step of a default plugin. It stands for the Python function of that name, which does the same
// and is called where Python plugins ran before it.
struct NativePlugin {
  std::string_view
      name;  // "pii_masker.mask": module and function under llm_proxy.rings.builtin.default
  NativeStep (*request)(NativeExchange&) = nullptr;
  NativeStep (*reply)(NativeExchange&, NativeReply&) = nullptr;
  // The reply is null when there is none.
  NativeStep (*background)(NativeExchange&, const RingOutcome&, NativeReply*) = nullptr;
};

// Null: there is none of that name.
const NativePlugin* native_plugin(std::string_view name);

}  // namespace llm_proxy
