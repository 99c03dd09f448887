#include "rings/native/native_plugin.h"

#include "json/splice.h"
#include "rings/native/digest.h"

namespace llm_proxy {
namespace {

using RawTexts = std::vector<std::pair<std::string_view, std::string>>;

std::string with_texts(std::string_view body, const RawTexts& raw_texts) {
  std::vector<Splice> splices;
  for (const auto& [old, fresh] : raw_texts) {
    const auto begin = static_cast<std::size_t>(old.data() - body.data());
    Splice splice{begin, begin + old.size(), {}};
    Text::plain(fresh).escape_to(splice.replacement);
    splices.push_back(std::move(splice));
  }
  return spliced(body, splices);
}

std::string_view header(const RingRequest& request, std::string_view name) {
  std::string_view value;
  for (const auto& [key, held] : request.headers) {
    if (key == name) value = held;
  }
  return value;
}

}  // namespace

const ChatRequestView* NativeExchange::view() {
  if (!read_) (void)check();
  return readable_ ? &view_ : nullptr;
}

Result<void> NativeExchange::check() {
  read_ = true;
  auto fits = view_.read(request_.body);
  readable_ = fits && view_.plain;
  return fits;
}

void NativeExchange::edit(const RawTexts& raw_texts) {
  request_.body = with_texts(request_.body, raw_texts);
  request_changed_ = true;
  read_ = false;
}

bool NativeExchange::wants_format() {
  const auto* seen = view();
  return seen != nullptr && seen->wants_format;
}

const std::string& NativeExchange::tenant() {
  if (!tenant_.empty()) return tenant_;
  tenant_ = request_.key_hash;
  if (tenant_.empty()) tenant_ = request_.session_id;
  // As llm_proxy.rings.runtime.engine names a session: by the client, else by where and what it is.
  if (tenant_.empty()) tenant_ = header(request_, "x-session-id");
  if (tenant_.empty()) {
    std::string who = request_.client_host;
    who.append(":").append(header(request_, "user-agent")).append(":");
    tenant_ = sha256_hex(who.append(header(request_, "accept-language")), 8);
  }
  return tenant_;
}

const ChatReplyView* NativeReply::view() {
  if (!std::exchange(read_, true)) readable_ = view_.read(reply_.body);
  return readable_ ? &view_ : nullptr;
}

void NativeReply::edit(const RawTexts& raw_texts) {
  reply_.body = with_texts(reply_.body, raw_texts);
  changed_ = true;
  read_ = false;
}

}  // namespace llm_proxy
