// One history of a tiny disk, judged: the word says what happens (support/letters.h), and at every
// moment of its last letter at which something changes the machine and the daemon die (CrashJudge).
// The moments before are those of shorter words.
//
// A digit after a letter: it is not waited for; the next letter begins when so many changes of a
// disk or answers have been seen. "w2f" is a FLUSH that comes while a write is under way.
//
// A process that died lives on beneath the next one (CloneRig), heard by nobody.
//
// Thread: one. The same word gives the same run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "crash/crash_judge.h"
#include "support/letters.h"

namespace clonedev {

// A kind of disk to crash.
struct CrashDisk {
  std::string name;
  RigConfig config;
  Extent window;  // The three blocks that the letters speak of.
};

class CrashRun {
 public:
  // `fresh`: a rig that is closed, never used; see fresh_rig().
  CrashRun(const CrashDisk& disk, const CloneRig& fresh, CrashJudge& judge);
  ~CrashRun();

  // Empty: all was well.
  std::string run(const std::string& word);
  // The last letter with a digit was still under way when the next one began.
  bool overlapped() const { return overlapped_; }

  // A new clone over a destination that is full of something else.
  static std::unique_ptr<CloneRig> fresh_rig(const CrashDisk& disk);

 private:
  struct Life {
    std::unique_ptr<CloneRig> rig;
    std::unique_ptr<ShadowClient> client;
    bool over = false;
    unsigned acts = 0;  // Under way beside the client's requests.
  };

  Life& life() { return *lives_.back(); }
  CloneRig& rig() { return *lives_.back()->rig; }
  void complain(const std::string& text);
  void begin(const Letter& letter);
  void wait(unsigned changes);
  bool idle();
  Task<> hydrate(Life& life);
  Task<> commit(Life& life);
  void restart();
  void die(const Letter& letter);
  void live_on(std::unique_ptr<CloneRig> next);
  void open();
  void observe();
  std::uint64_t changes();
  std::uint64_t picture();

  const CrashDisk& disk_;
  CrashJudge& judge_;
  ShadowDisk shadow_;
  std::vector<std::unique_ptr<Life>> lives_;
  bool judging_ = false;
  bool overlapped_ = false;
  bool stuck_ = false;
  std::uint64_t seen_ = 0;
  std::string complaint_;
};

}  // namespace clonedev
