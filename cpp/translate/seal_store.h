#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/events.h"
#include "model/request.h"

namespace llm_proxy {

// Keeps the sealed thinking that stood before a tool call, for clients whose format has no place
// for it or that do not send it back. Bounded by entries, bytes and age; the oldest goes first.
//
// Owned by the server, used by all workers: the next request of a session may come to another one.
// A leaf mutex is held for one look-up or one insertion. Time is the caller's.
//
//   reply:    SealRecorder tee(store, session, encoder) gets the decoder's events, passes them on
//   request:  restore_seals(request, store, session, upstream, now), before encode_request()
class SealStore {
 public:
  using Clock = std::chrono::steady_clock;

  struct Limits {
    std::size_t entries = 4096;
    std::size_t bytes = std::size_t{16} << 20;
    std::chrono::seconds ttl{3600};
  };

  // One thinking part, as it came.
  struct Thinking {
    WireFormat maker = WireFormat::openai_chat;
    bool redacted = false;
    std::string text, token, item_id;
  };

  explicit SealStore(Limits limits) : limits_(limits) {}

  // Keeps what stood before the call `call_id`, whose name and arguments are `call`. Ids come again
  // in some servers' later turns; what the call says then tells them apart.
  void put(std::string_view session, std::string_view call_id, std::string_view call,
           std::vector<Thinking> thinking, Clock::time_point now);
  // Nothing when unknown or too old.
  std::vector<Thinking> find(std::string_view session, std::string_view call_id,
                             std::string_view call, Clock::time_point now) const;

  std::size_t entries() const;
  std::size_t bytes() const;

 private:
  struct Entry {
    std::string key;
    std::uint64_t call;
    std::size_t bytes;
    Clock::time_point until;
    std::vector<Thinking> thinking;
  };
  using Place = std::list<Entry>::iterator;

  void drop(Place entry);

  const Limits limits_;
  mutable std::mutex mutex_;  // guards everything below
  std::size_t bytes_ = 0;
  std::list<Entry> entries_;                            // oldest first
  std::unordered_multimap<std::string, Place> places_;  // by session and call id
};

// Passes a reply's events on and puts the sealed thinking before each call into the store.
class SealRecorder final : public EventSink {
 public:
  SealRecorder(SealStore& store, std::string session, EventSink& next,
               SealStore::Clock::time_point now)
      : store_(store), session_(std::move(session)), next_(next), now_(now) {}

  void on_event(const Event& event) override;

 private:
  SealStore& store_;
  std::string session_;
  EventSink& next_;
  SealStore::Clock::time_point now_;
  PartKind kind_ = PartKind::raw;
  std::vector<SealStore::Thinking> thinking_;  // since the last call
  std::string call_id_, call_;
};

// Puts thinking of `upstream`'s own making back before the calls it stood before, where the request
// has lost it. Text that is there without its seal gets the seal back.
void restore_seals(Request& request, SealStore& store, std::string_view session,
                   WireFormat upstream, SealStore::Clock::time_point now);

}  // namespace llm_proxy
