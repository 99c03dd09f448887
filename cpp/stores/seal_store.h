#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/fair_list.h"
#include "formats/format.h"
#include "model/events.h"
#include "model/request.h"

namespace llm_proxy {

// Keeps what clients do not send back: the sealed thinking that stood before a tool call, where
// their format has no place for it, and the ids of calls, which some Gemini clients drop. What was
// kept is found again under the same session, call id, name and arguments of the call, and under no
// other: servers number calls anew in each conversation, some in each turn. Bounded
// by entries, bytes and the time since the last use. Who fills it loses what it has not used for
// longest: nobody loses anything to somebody who keeps more. An owner is the part of a session's
// name before its first NUL that is not its first character.
//
// Owned by the server, used by all workers: the next request of a session may come to another one.
// A leaf mutex is held for one look-up or one insertion. Time is the caller's.
//
//   reply:    SealRecorder tee(store, session, encoder, …) gets the decoder's events, passes them
//   on request:  restore_ids(request, store, session, now) and restore_seals(request, store,
//   session,
//             upstream, now), before encode_request()
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
    WireFormat maker{};
    bool redacted = false;
    std::string text, token, item_id;
  };

  explicit SealStore(Limits limits) : limits_(limits) {}

  // Keeps what stood before the call `call_id`, whose name and arguments are `call`.
  void put(std::string_view session, std::string_view call_id, std::string_view call,
           std::vector<Thinking> thinking, Clock::time_point now);
  // Nothing when unknown or too old.
  std::vector<Thinking> find(std::string_view session, std::string_view call_id,
                             std::string_view call, Clock::time_point now);
  // The same for the id that the upstream gave the call at `place` of its conversation.
  void put_id(std::string_view session, std::string_view place, std::string_view call,
              std::string id, Clock::time_point now);
  std::string find_id(std::string_view session, std::string_view place, std::string_view call,
                      Clock::time_point now);

  std::size_t entries() const;
  std::size_t bytes() const;

 private:
  struct Entry {
    std::string key;
    std::uint64_t call;
    std::size_t bytes;
    Clock::time_point until;
    std::vector<Thinking> thinking;
    std::string id;
  };
  using Place = FairList<Entry>::Place;

  void put(std::string_view session, Entry entry, Clock::time_point now);
  void drop_old(Clock::time_point now);
  const Entry* use(const std::string& key, std::string_view call, Clock::time_point now);
  void drop(Place entry);

  const Limits limits_;
  mutable std::mutex mutex_;                               // guards everything below
  FairList<Entry> entries_;                                // of each owner, longest unused first
  Clock::time_point next_old_ = Clock::time_point::max();  // before it nothing is too old
  std::unordered_multimap<std::string, Place> places_;     // by session and call id or place
};

// Passes the events of the reply to `asked` on and puts the sealed thinking before each call into
// the store; with `keep_ids`, for a client that may not send ids back, each call's id too.
class SealRecorder final : public EventSink {
 public:
  SealRecorder(SealStore& store, std::string session, EventSink& next,
               SealStore::Clock::time_point now, const EncodeContext& asked, bool keep_ids);

  void on_event(const Event& event) override;

 private:
  void end_call();

  SealStore& store_;
  std::string session_;
  EventSink& next_;
  SealStore::Clock::time_point now_;
  const Translation* names_;
  std::unordered_map<std::string, std::size_t> said_;  // how often each call was made so far
  std::string head_;         // of the conversation; empty: ids are not kept
  std::uint64_t calls_ = 0;  // in the conversation so far
  PartKind kind_ = PartKind::raw;
  std::vector<SealStore::Thinking> thinking_;  // since the last call
  std::string call_id_, name_, arguments_;
};

// Gives calls that came without an id, and their results, the ids that the upstream gave them.
void restore_ids(Request& request, SealStore& store, std::string_view session,
                 SealStore::Clock::time_point now);

// Puts thinking of `upstream`'s own making, sealed as it was last, back before the calls it stood
// before, where the request has lost it. Text that is there without its seal gets the seal back.
void restore_seals(Request& request, SealStore& store, std::string_view session,
                   WireFormat upstream, SealStore::Clock::time_point now);

}  // namespace llm_proxy
