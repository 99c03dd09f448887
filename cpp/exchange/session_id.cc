#include "exchange/session_id.h"

#include <openssl/evp.h>

#include <algorithm>

#include "json/reader.h"
#include "routing/session_store.h"

namespace llm_proxy {
namespace {

class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new()) { EVP_DigestInit_ex(context_, EVP_sha256(), nullptr); }
  ~Digest() { EVP_MD_CTX_free(context_); }
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  // Each piece with its size, so that no two lists of pieces are alike.
  Digest& add(std::string_view piece) {
    const auto size = piece.size();
    EVP_DigestUpdate(context_, &size, sizeof size);
    EVP_DigestUpdate(context_, piece.data(), piece.size());
    return *this;
  }
  std::string made() {
    std::string out(EVP_MAX_MD_SIZE, '\0');
    unsigned int size = 0;
    EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(out.data()), &size);
    out.resize(size);
    return out;
  }

 private:
  EVP_MD_CTX* context_;
};

// The best name for a session among the members of a body.
class NameInBody {
 public:
  // Takes the next value of `json`, which is the member `key`, if it may be a name; else leaves it.
  void read(std::string_view key, JsonReader& json) {
    const bool text = json.kind() == JsonKind::string;
    const bool object = json.kind() == JsonKind::object;
    Text value;
    JsonSlice inner;
    if (key == "session_id" && text) {
      if (json.string(value)) take(5, value.decode());
    } else if (key == "extra_body" && object) {
      if (json.object(inner)) take(4, string_member(inner, "session_id").decode());
    } else if (key == "prompt_cache_key" && text) {
      if (json.string(value)) take(3, value.decode());
    } else if (key == "conversation" && text) {
      if (json.string(value)) take(2, value.decode());
    } else if (key == "conversation" && object) {
      if (json.object(inner)) take(2, string_member(inner, "id").decode());
    } else if (key == "metadata" && object) {
      if (json.object(inner)) take(kUser, string_member(inner, "user_id").decode());
    }
  }
  const std::string& name() const { return name_; }
  // It may name all sessions of one user.
  bool is_user() const { return rank_ <= kUser; }

 private:
  static constexpr int kUser = 1;

  void take(int rank, std::string value) {
    if (value.empty() || rank <= rank_) return;
    rank_ = rank;
    name_ = std::move(value);
  }

  std::string name_;
  int rank_ = 0;
};

std::string named_in(std::string_view body) {
  NameInBody out;
  JsonReader json(body);
  std::string_view key;
  if (!json.begin_object()) return {};
  while (json.next_key(key)) out.read(key, json);
  return out.name();
}

// What the ids of all sessions of a client begin with.
std::string of_owner(const ClientRequest& client) {
  return Digest().add("owner").add(client.owner).made().substr(0, SessionStore::kOwnerBytes);
}

void add_texts(const Message& message, Digest& digest) {
  for (const auto& part : message.parts) {
    if (const auto* text = std::get_if<TextPart>(&part)) digest.add(text->text.decode());
  }
}

}  // namespace

std::string_view session_field(const RequestHead& head) {
  for (const auto name : kSessionFields) {
    const auto value = head.fields.value(name);
    if (!value.empty()) return value;
  }
  return {};
}

std::string named_session(const ClientRequest& client, std::string_view body) {
  std::string name(session_field(client.head));
  if (name.empty()) name = named_in(body);
  return name.empty() ? name
                      : of_owner(client) + Digest().add("named").add(client.owner).add(name).made();
}

std::string seal_session(const ClientRequest& client, const Request& request) {
  Digest digest;
  digest.add("seals").add(client.owner);
  if (const auto field = session_field(client.head); !field.empty()) {
    digest.add("named").add(field);
  } else {
    NameInBody named;
    for (const auto& [key, value] : request.members) {
      JsonReader json(value);
      named.read(key, json);
    }
    digest.add("named").add(named.name());
    const auto& messages = request.messages;
    const auto first = std::find_if(messages.begin(), messages.end(), [](const Message& message) {
      return message.role == Role::user;
    });
    if (named.is_user() && first != messages.end()) add_texts(*first, digest.add("began"));
  }
  return (client.owner + '\0').append(digest.made());
}

std::string derived_session(const ClientRequest& client, const Request& request) {
  Digest digest;
  digest.add("derived").add(client.owner).add(client.head.fields.value("user-agent"));
  for (const auto& message : request.messages) {
    if (message.role == Role::system || message.role == Role::developer) {
      digest.add("system");
    } else if (message.role == Role::user) {
      digest.add("user");
    } else {
      continue;
    }
    add_texts(message, digest);
    if (message.role == Role::user) break;
  }
  return of_owner(client) + digest.made();
}

}  // namespace llm_proxy
