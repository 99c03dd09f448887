#include "rings/native/reply_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>

#include "json/scan.h"
#include "rings/native/digest.h"

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

constexpr std::size_t kAlign = 8;
// Four answers of a bucket take about this much; of shorter ones the index has fewer than fit.
constexpr std::size_t kBytesPerBucket = 2048;

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

std::size_t ReplyCache::record_size(std::string_view key, std::string_view reply) {
  return (sizeof(Record) + key.size() + reply.size() + kAlign - 1) / kAlign * kAlign;
}

ReplyCache::ReplyCache(double seconds, std::size_t max_bytes)
    : seconds_(seconds), capacity_(max_bytes / kAlign * kAlign), end_(capacity_) {}

std::optional<std::string> ReplyCache::find(std::string_view key, double now) {
  const auto hash = std::hash<std::string_view>{}(key);
  const std::lock_guard lock(mutex_);
  if (log_) {
    for (const Slot slot : bucket_of(hash)) {
      if (slot.hash != hash || !holds(slot.place)) continue;
      const char* at = log_.get() + slot.place % capacity_;
      Record record;
      std::memcpy(&record, at, sizeof record);
      at += sizeof record;
      if (std::string_view(at, record.key_size) != key || record.until <= now) break;
      std::string reply(at + record.key_size, record.reply_size);
      if (end_ - slot.place > capacity_ / 2) append(hash, key, reply, record.until);
      ++hits_;
      return reply;
    }
  }
  ++misses_;
  return std::nullopt;
}

void ReplyCache::put(std::string_view key, std::string_view reply, double now) {
  if (record_size(key, reply) > capacity_ / 8) return;
  const auto hash = std::hash<std::string_view>{}(key);
  const std::lock_guard lock(mutex_);
  if (!log_) {
    index_.resize(std::bit_ceil(std::max<std::size_t>(capacity_ / kBytesPerBucket, 16)));
    log_ = std::make_unique_for_overwrite<char[]>(capacity_);
  }
  append(hash, key, reply, now + seconds_);
}

void ReplyCache::append(std::uint64_t hash, std::string_view key, std::string_view reply,
                        double until) {
  const auto size = record_size(key, reply);
  const auto left = capacity_ - end_ % capacity_;
  const auto place = left < size ? end_ + left : end_;
  end_ = place + size;
  const Record record{until, key.size(), reply.size()};
  char* at = log_.get() + place % capacity_;
  std::memcpy(at, &record, sizeof record);
  at = std::ranges::copy(key, at + sizeof record).out;
  std::ranges::copy(reply, at);
  Bucket& bucket = bucket_of(hash);
  auto slot = std::ranges::find(bucket, hash, &Slot::hash);
  if (slot == bucket.end()) slot = std::ranges::min_element(bucket, {}, &Slot::place);
  *slot = {hash, place};
}

void ReplyCache::clear() {
  const std::lock_guard lock(mutex_);
  log_.reset();
  index_ = {};
  end_ = capacity_;
}

ReplyCache::Stats ReplyCache::stats() const {
  const std::lock_guard lock(mutex_);
  std::size_t entries = 0;
  for (const Bucket& bucket : index_) {
    entries += static_cast<std::size_t>(std::ranges::count_if(
        bucket, [this](const Slot& slot) { return slot.place != 0 && holds(slot.place); }));
  }
  return {entries, std::min<std::size_t>(end_ - capacity_, capacity_), hits_, misses_};
}

}  // namespace llm_proxy
