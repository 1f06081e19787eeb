// A server in this process that is put into trouble: the part that has nothing to do with what it
// speaks. A thread a connection.
//
// Thread: serve() runs in threads of the server's own; everything else in the test's. Whoever
// derives from it calls stop() in its destructor.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "troubled_origin.h"

namespace clonedev {

class TroubledServer : public TroubledOrigin {
 public:
  explicit TroubledServer(std::string content);
  ~TroubledServer() override;

  void set(Trouble trouble) override;
  unsigned connections() const override { return accepted_; }
  bool holds_something() const override { return held_; }

 protected:
  // Speaks with one client until it is gone.
  virtual void serve(int fd) = 0;

  void listen();
  void stop();

  Trouble trouble() const { return trouble_; }
  // With other_content, another one of the same size.
  const std::string& content() const;
  // A slow server sleeps; a stalled one waits here until that is over. False: the client is gone.
  bool ready_to_answer(int fd);
  // What is read from there has to fail.
  bool is_bad(std::uint64_t offset, std::uint64_t length) const;
  static void reset(int fd);

  std::uint16_t port_ = 0;

 private:
  void accept_all(int listener);
  void hang_up();
  void join_all();

  const std::string content_;
  const std::string other_;
  std::atomic<Trouble> trouble_ = Trouble::none;
  std::atomic<unsigned> accepted_ = 0;
  std::atomic<bool> held_ = false;
  int listener_ = -1;
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<int> peers_;            // protected by mutex_; -1: ended.
  std::vector<std::thread> threads_;  // protected by mutex_.
};

}  // namespace clonedev
