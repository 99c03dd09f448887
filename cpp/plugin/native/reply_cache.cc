#include "plugin/native/reply_cache.h"

#include <algorithm>
#include <array>
#include <utility>

#include "json/scan.h"
#include "plugin/native/digest.h"

namespace llm_proxy {
namespace {

// What does not change an answer.
constexpr std::array<std::string_view, 5> kIrrelevant{"stream", "stream_options", "user",
                                                      "metadata", "store"};

// A string and its closing quote as our own writer spells them. `at` is behind the opening one;
// returns what is behind the closing one.
const char* copy_string(const char* at, const char* end, std::string& out) {
  const char* const start = at;
  bool usual = true;
  for (;;) {
    at = json_detail::find_special(at, end);
    if (end - at < 2 || *at == '"') break;
    constexpr std::string_view kUsual = "nrt\"\\";
    usual = usual && kUsual.find(at[1]) != std::string_view::npos;
    at += 2;
  }
  const std::string_view raw(start, static_cast<std::size_t>(at - start));
  if (usual) {
    out += raw;
  } else {
    Text::plain(Text::escaped(raw).decode()).escape_to(out);
  }
  out += '"';
  return at == end ? at : at + 1;
}

// Valid JSON without white space, each string spelled in one way.
void canonical_to(std::string_view json, std::string& out) {
  const char* at = json.data();
  const char* const end = at + json.size();
  while (at != end) {
    const char c = *at++;
    if (c == '"') {
      out += '"';
      at = copy_string(at, end, out);
    } else if (static_cast<unsigned char>(c) > ' ') {
      out += c;
    }
  }
}

}  // namespace

std::string cache_key(const ChatRequestView& request, std::string_view tenant) {
  std::vector<ChatRequestView::Member> asked;
  asked.reserve(request.members.size());
  for (const auto& member : request.members) {
    if (std::ranges::find(kIrrelevant, member.key) == kIrrelevant.end()) asked.push_back(member);
  }
  std::ranges::stable_sort(asked, {}, &ChatRequestView::Member::key);
  std::size_t size = tenant.size() + 3;
  for (const auto& member : asked) size += member.key.size() + member.value.size() + 4;
  std::string text;
  text.reserve(size);
  text = tenant;
  text += '\0';
  text += '{';
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (i + 1 < asked.size() && asked[i + 1].key == asked[i].key) continue;  // the last one counts
    if (text.back() != '{') text += ',';
    text += '"';
    text += asked[i].key;
    text += "\":";
    canonical_to(asked[i].value, text);
  }
  text += '}';
  return sha256_hex(text, 32);
}

ReplyCache::ReplyCache(double seconds, std::size_t max_bytes)
    : seconds_(seconds), max_bytes_(max_bytes) {
  // In a table this large each row that is looked at on the way costs a trip to memory.
  by_key_.max_load_factor(0.5F);
}

std::optional<std::string> ReplyCache::find(const std::string& key, double now) {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found != by_key_.end() && found->second->until <= now) {
    drop(found);
  } else if (found != by_key_.end()) {
    ++hits_;
    rows_.splice(rows_.end(), rows_, found->second);
    return found->second->reply;
  }
  ++misses_;
  return std::nullopt;
}

// A row that goes lends its memory to the one that comes: a full cache neither allocates nor frees,
// else every exchange would pay for a heap in pieces.
void ReplyCache::put(std::string_view key, std::string_view reply, double now) {
  if (reply.size() > max_bytes_ / 8) return;
  const auto least = std::max(reply.size(), std::string().capacity());
  const std::lock_guard lock(mutex_);
  if (const auto before = by_key_.find(key); before != by_key_.end()) drop(before);
  Rows fresh;
  Index::node_type indexed;
  while (!rows_.empty() && bytes_ + least > max_bytes_) {
    const auto oldest = rows_.begin();
    bytes_ -= oldest->reply.capacity();
    indexed = by_key_.extract(oldest->key);
    fresh.clear();
    fresh.splice(fresh.end(), rows_, oldest);
  }
  if (fresh.empty()) fresh.emplace_back();
  Row& row = fresh.front();
  const auto room = row.reply.capacity();
  if (room < reply.size() || room / 2 > reply.size() || bytes_ + room > max_bytes_) {
    row.reply = std::string(reply);
  } else {
    row.reply = reply;
  }
  row.key = key;
  row.until = now + seconds_;
  bytes_ += row.reply.capacity();
  rows_.splice(rows_.end(), fresh);
  if (indexed.empty()) {
    by_key_.emplace(row.key, std::prev(rows_.end()));
  } else {
    indexed.key() = row.key;
    indexed.mapped() = std::prev(rows_.end());
    by_key_.insert(std::move(indexed));
  }
}

void ReplyCache::clear() {
  const std::lock_guard lock(mutex_);
  by_key_.clear();
  rows_.clear();
  bytes_ = 0;
}

ReplyCache::Stats ReplyCache::stats() const {
  const std::lock_guard lock(mutex_);
  return {rows_.size(), bytes_, hits_, misses_};
}

void ReplyCache::drop(Index::iterator found) {
  const auto row = found->second;
  bytes_ -= row->reply.capacity();
  by_key_.erase(found);
  rows_.erase(row);
}

}  // namespace llm_proxy
