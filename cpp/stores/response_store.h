#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/fair_list.h"
#include "base/result.h"
#include "formats/format.h"
#include "http/sse_reader.h"
#include "json/text.h"

namespace llm_proxy {

// One turn a client may come back to: what it said and what it was told, as the bytes on the wire.
// The turns before it stay as long as it does.
struct StoredResponse {
  std::string id;
  std::string body;         // the response object
  std::string input;        // this turn's input items, joined by commas
  std::string_view output;  // the response's output items, likewise: a piece of `body`
  std::string holder;       // the instance that keeps it too; empty: nobody
  bool whole = true;        // false: it went on from something only the holder knows
  bool is_response = true;  // false: what a conversation began with, or was given between turns
  std::shared_ptr<const StoredResponse> before;
  // What its owner holds, itself and the turns before the kept ones included; set by the store.
  struct Account {
    explicit Account(std::shared_ptr<std::atomic<std::size_t>> all) : all(std::move(all)) {}
    std::atomic<std::size_t> bytes{0};
    std::shared_ptr<std::atomic<std::size_t>> all;  // the whole store's
  };
  std::shared_ptr<Account> account;

  StoredResponse() = default;
  ~StoredResponse();
  StoredResponse(const StoredResponse&) = delete;
  StoredResponse& operator=(const StoredResponse&) = delete;

  std::size_t size() const { return sizeof *this + id.size() + body.size() + input.size(); }
};

// The responses and conversations of Responses clients whose upstream keeps none. Whose they are is
// part of their name, so no client is ever shown another's. Bounded by entries, bytes and age. Who
// fills it loses what it has kept for longest: nobody loses anything to somebody who keeps more.
//
// Owned by the server, used by all workers: the next request may come to another one. A leaf mutex
// is held for one look-up or one insertion. Time is the caller's.
class ResponseStore {
 public:
  struct Limits {
    std::size_t store_entries = 10'000;
    std::size_t store_bytes = std::size_t{64} << 20;
    std::chrono::seconds store_seconds{3600};
  };
  using Entry = std::shared_ptr<const StoredResponse>;

  explicit ResponseStore(Limits limits) : limits_(limits) {}

  // Keeps `response` for `owner` under `name`: its own id, or the conversation's it is the end of.
  void put(std::string_view owner, std::string_view name, std::shared_ptr<StoredResponse> response,
           TimePoint now);
  // Null when unknown, too old or somebody else's.
  Entry find(std::string_view owner, std::string_view name, TimePoint now) const;
  bool erase(std::string_view owner, std::string_view name);
  // Whether anybody keeps something under this name.
  bool knows(std::string_view name) const;

  std::size_t entries() const;
  std::size_t bytes() const { return account_->load(); }

 private:
  struct Kept {
    std::string key, name;
    TimePoint until;
    Entry response;
  };
  using Place = FairList<Kept>::Place;

  void drop(Place kept);
  void drop_old(TimePoint now);
  bool is_full() const;
  void account_for(FairList<Kept>::Node& node);

  const Limits limits_;
  const std::shared_ptr<std::atomic<std::size_t>> account_ =
      std::make_shared<std::atomic<std::size_t>>(0);
  mutable std::mutex mutex_;  // guards everything below
  FairList<Kept> kept_;
  TimePoint next_old_ = TimePoint::max();  // before it nothing is too old
  std::unordered_map<std::string, Place> places_;
  std::unordered_map<std::string, std::size_t> names_;  // how many owners keep one of this name
};

// One Responses request that goes on from an earlier turn, or that a later one may go on from.
//
// Owned by its exchange; lives on its worker. Fed with what the client is sent, before it is sent:
// the client may ask for more the moment it has read the end.
class ResponseTurn {
 public:
  // Null when this request neither goes on from anything nor is to be kept. `body` is looked at
  // now, and again by expanded(). malformed_request where the client asks for two pasts at once.
  static Result<std::unique_ptr<ResponseTurn>> open(ResponseStore& store, std::string_view owner,
                                                    std::string_view body, const RequestPeek& peek,
                                                    TimePoint now);

  // Whether the past is ours to add.
  bool knows_past() const { return before_ != nullptr; }
  // Whether the upstream called `instance` may be left to add it: it keeps it, or we know nothing.
  bool leaves_past_to(std::string_view instance) const {
    return before_ == nullptr || (conversation_.empty() && before_->holder == instance);
  }
  // `body` with the past in its input, and nothing that points to it.
  std::string expanded(std::string_view body, const RequestPeek& peek);
  bool is_expanded() const { return expanded_; }
  // Whether it goes on from a response or conversation that is not kept here for this owner:
  // another client's, or one that was forgotten.
  bool is_foreign() const { return foreign_; }
  // Whether what it goes on from is kept here, for somebody else.
  bool is_of_another() const { return of_another_; }
  // What the client is told then.
  Error foreign_past() const;
  // The response it goes on from, as JSON; empty: none.
  std::string_view previous_id() const { return previous_id_; }
  // The conversation it goes on in, as the reply names it; empty: none.
  std::string_view conversation_object() const { return conversation_object_; }
  // The proxy itself answers: a later turn goes on as if this one had not been.
  void leave_out() { left_out_ = true; }
  // Whether `error` is an upstream's word that it knows no such past.
  static bool is_unknown_past(const Error& error);

  // What the client is sent. `instance`: who answers, if it may keep the response too.
  void on_whole(std::string_view body, std::string_view instance);
  void on_stream(std::string_view bytes, std::string_view instance);

 private:
  ResponseTurn(ResponseStore& store, std::string_view owner, TimePoint now)
      : store_(store), owner_(owner), now_(now) {}

  void keep(JsonSlice response, std::string_view instance);

  ResponseStore& store_;
  std::string owner_;
  TimePoint now_;
  std::string input_;         // items, joined by commas
  std::string previous_id_;   // a JSON string
  std::string conversation_;  // decoded
  std::string conversation_object_;
  ResponseStore::Entry before_;
  bool wanted_ = true;  // the client did not say store: false
  bool left_out_ = false;
  bool kept_ = false;
  bool expanded_ = false;
  bool foreign_ = false;
  bool of_another_ = false;
  SseReader reader_{32u << 20};
};

inline constexpr std::string_view kConversationPrefix = "conv_";

// The last turn of a conversation that is kept here; null: none of that name is.
ResponseStore::Entry find_conversation(const ResponseStore& store, std::string_view owner,
                                       std::string_view id, TimePoint now);

// An item as the API lists it: with an id, and content in parts. Ids it lacks are made of `seed`
// and `position`.
struct ListedItem {
  std::string id, json;
};
ListedItem listed_item(JsonSlice item, std::string_view seed, std::uint64_t position);

// All that the model was given with `last`, in order; with what it said to it.
std::vector<ListedItem> listed_items(const StoredResponse& last, bool with_output);
// A page of them, as `query` (as sent) asks for it.
std::string encode_list(std::vector<ListedItem> items, std::string_view query);

}  // namespace llm_proxy
