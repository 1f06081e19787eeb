/*
 * The part of the binary interface of tcmu-runner 1.5.4 to 1.6.2 that this handler uses.
 *
 * No distribution installs a usable header, so the facts are written down here: layouts and values,
 * held by assertions below and compared with the distribution's own source by tests/abi.
 * tcmu-runner before 1.5.4 has another layout and no way to tell: packages must require >= 1.5.4.
 *
 * Compiles as C11 and as C++20. Layouts are those of 64-bit Linux.
 */
#ifndef TCMU_ABI_H
#define TCMU_ABI_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tcmu_device; /* The runner's own; never looked into. */

enum { TCMU_SENSE_BYTES = 96 };

/* What a callout returns and what tcmur_cmd_complete takes. */
enum {
  TCMU_STS_ASYNC_HANDLED = -2,
  TCMU_STS_NOT_HANDLED = -1,
  TCMU_STS_OK = 0, /* From a callout: queued, tcmur_cmd_complete follows exactly once. */
  TCMU_STS_NO_RESOURCE = 1,
  TCMU_STS_PASSTHROUGH_ERR = 2, /* CHECK CONDITION with the sense the handler has built. */
  TCMU_STS_BUSY = 3,
  TCMU_STS_WR_ERR = 4,
  TCMU_STS_RD_ERR = 5,
  TCMU_STS_MISCOMPARE = 6,
  TCMU_STS_INVALID_CMD = 7,
  TCMU_STS_INVALID_CDB = 8,
  TCMU_STS_INVALID_PARAM_LIST = 9,
  TCMU_STS_INVALID_PARAM_LIST_LEN = 10,
  TCMU_STS_HW_ERR = 13,
  TCMU_STS_RANGE = 14
};

/* One SCSI command as libtcmu took it from the ring; all memory is one heap block of libtcmu. */
struct tcmulib_cmd {
  uint16_t cmd_id;
  uint8_t* cdb; /* A private copy: may be rewritten before the runner looks at it. */
  struct iovec* iovec;
  size_t iov_cnt;
  uint8_t sense_buf[TCMU_SENSE_BYTES]; /* Not zeroed by libtcmu. */
  void* hm_private;
};

/* The runner's part of a command; a compound command makes several of one lib_cmd. */
struct tcmur_cmd {
  struct tcmulib_cmd* lib_cmd;
  struct iovec* iovec;
  size_t iov_cnt;
  void* iov_base_copy;
  void* cmd_state;
  size_t requested;
  void* cmds_list_entry[2];
  struct timespec start_time;
  bool timed_out;
  void (*done)(struct tcmu_device* dev, struct tcmur_cmd* cmd, int status);
};

enum tcmulib_cfg_type {
  TCMULIB_CFG_DEV_CFGSTR = 0,
  TCMULIB_CFG_DEV_SIZE = 1,
  TCMULIB_CFG_WRITE_CACHE = 2
};

struct tcmulib_cfg_info {
  enum tcmulib_cfg_type type;
  union {
    uint64_t dev_size;
    char* dev_cfgstring;
    bool write_cache;
  } data;
};

struct tcmur_handler {
  const char* name;
  const char* subtype;
  const char* cfg_desc;
  void* opaque;
  bool (*check_config)(const char* cfgstring, char** reason); /* The runner frees *reason. */
  int (*reconfig)(struct tcmu_device* dev, struct tcmulib_cfg_info* cfg);
  int (*open)(struct tcmu_device* dev, bool reopen);
  void (*close)(struct tcmu_device* dev);
  int nr_threads;
  int (*handle_cmd)(struct tcmu_device* dev, struct tcmur_cmd* cmd);
  int (*read)(struct tcmu_device* dev, struct tcmur_cmd* cmd, struct iovec* iovec, size_t iov_cnt,
              size_t len, off_t off);
  int (*write)(struct tcmu_device* dev, struct tcmur_cmd* cmd, struct iovec* iovec, size_t iov_cnt,
               size_t len, off_t off);
  int (*flush)(struct tcmu_device* dev, struct tcmur_cmd* cmd);
  int (*unmap)(struct tcmu_device* dev, struct tcmur_cmd* cmd, uint64_t off, uint64_t len);
  int (*writesame)(struct tcmu_device* dev, struct tcmur_cmd* cmd, uint64_t off, uint64_t len,
                   struct iovec* iovec, size_t iov_cnt);
  int (*caw)(struct tcmu_device* dev, struct tcmur_cmd* cmd, uint64_t off, uint64_t len,
             struct iovec* iovec, size_t iov_cnt);
  int (*report_event)(struct tcmu_device* dev);
  int (*lock)(struct tcmu_device* dev, uint16_t tag);
  int (*unlock)(struct tcmu_device* dev);
  int (*get_lock_tag)(struct tcmu_device* dev, uint16_t* tag);
  int (*get_lock_state)(struct tcmu_device* dev);
  bool is_dbus_handler;
  bool (*update_logdir)(void);
  int (*init)(void);
  void (*destroy)(void);
};

/* Exported by the daemon. */
int tcmur_register_handler(struct tcmur_handler* handler);
void tcmur_cmd_complete(struct tcmu_device* dev, void* cmd, int status);
void tcmur_dev_set_private(struct tcmu_device* dev, void* handlers_own);
void* tcmur_dev_get_private(struct tcmu_device* dev);

/* Exported by libtcmu, which the daemon has loaded. Lengths are in logical blocks. */
const char* tcmu_dev_get_uio_name(struct tcmu_device* dev);
char* tcmu_dev_get_cfgstring(struct tcmu_device* dev);
uint64_t tcmu_dev_get_num_lbas(struct tcmu_device* dev);
void tcmu_dev_set_num_lbas(struct tcmu_device* dev, uint64_t num_lbas);
uint32_t tcmu_dev_get_block_size(struct tcmu_device* dev);
void tcmu_dev_set_max_xfer_len(struct tcmu_device* dev, uint32_t len);
uint32_t tcmu_dev_get_max_xfer_len(struct tcmu_device* dev);
void tcmu_dev_set_write_cache_enabled(struct tcmu_device* dev, bool enabled);
char* tcmu_cfgfs_dev_get_wwn(struct tcmu_device* dev); /* The unit serial; caller frees. */

/* Log functions of libtcmu: `dev` may be NULL; messages end with a newline. */
__attribute__((format(printf, 4, 5))) void tcmu_err_message(struct tcmu_device* dev,
                                                            const char* function, int line,
                                                            const char* format, ...);
__attribute__((format(printf, 4, 5))) void tcmu_warn_message(struct tcmu_device* dev,
                                                             const char* function, int line,
                                                             const char* format, ...);
__attribute__((format(printf, 4, 5))) void tcmu_info_message(struct tcmu_device* dev,
                                                             const char* function, int line,
                                                             const char* format, ...);
__attribute__((format(printf, 4, 5))) void tcmu_dbg_message(struct tcmu_device* dev,
                                                            const char* function, int line,
                                                            const char* format, ...);

#define TCMU_ABI_AT(type, member, offset) \
  static_assert(offsetof(struct type, member) == (offset), #type "." #member)

static_assert(sizeof(struct tcmulib_cmd) == 136, "tcmulib_cmd");
TCMU_ABI_AT(tcmulib_cmd, cdb, 8);
TCMU_ABI_AT(tcmulib_cmd, iovec, 16);
TCMU_ABI_AT(tcmulib_cmd, iov_cnt, 24);
TCMU_ABI_AT(tcmulib_cmd, sense_buf, 32);
TCMU_ABI_AT(tcmulib_cmd, hm_private, 128);

static_assert(sizeof(struct tcmur_cmd) == 96, "tcmur_cmd");
TCMU_ABI_AT(tcmur_cmd, lib_cmd, 0);
TCMU_ABI_AT(tcmur_cmd, iovec, 8);
TCMU_ABI_AT(tcmur_cmd, iov_cnt, 16);
TCMU_ABI_AT(tcmur_cmd, iov_base_copy, 24);
TCMU_ABI_AT(tcmur_cmd, cmd_state, 32);
TCMU_ABI_AT(tcmur_cmd, requested, 40);
TCMU_ABI_AT(tcmur_cmd, cmds_list_entry, 48);
TCMU_ABI_AT(tcmur_cmd, start_time, 64);
TCMU_ABI_AT(tcmur_cmd, timed_out, 80);
TCMU_ABI_AT(tcmur_cmd, done, 88);

static_assert(sizeof(struct tcmulib_cfg_info) == 16, "tcmulib_cfg_info");
TCMU_ABI_AT(tcmulib_cfg_info, data, 8);

static_assert(sizeof(struct tcmur_handler) == 200, "tcmur_handler");
TCMU_ABI_AT(tcmur_handler, subtype, 8);
TCMU_ABI_AT(tcmur_handler, cfg_desc, 16);
TCMU_ABI_AT(tcmur_handler, opaque, 24);
TCMU_ABI_AT(tcmur_handler, check_config, 32);
TCMU_ABI_AT(tcmur_handler, reconfig, 40);
TCMU_ABI_AT(tcmur_handler, open, 48);
TCMU_ABI_AT(tcmur_handler, close, 56);
TCMU_ABI_AT(tcmur_handler, nr_threads, 64);
TCMU_ABI_AT(tcmur_handler, handle_cmd, 72);
TCMU_ABI_AT(tcmur_handler, read, 80);
TCMU_ABI_AT(tcmur_handler, write, 88);
TCMU_ABI_AT(tcmur_handler, flush, 96);
TCMU_ABI_AT(tcmur_handler, unmap, 104);
TCMU_ABI_AT(tcmur_handler, writesame, 112);
TCMU_ABI_AT(tcmur_handler, caw, 120);
TCMU_ABI_AT(tcmur_handler, report_event, 128);
TCMU_ABI_AT(tcmur_handler, lock, 136);
TCMU_ABI_AT(tcmur_handler, unlock, 144);
TCMU_ABI_AT(tcmur_handler, get_lock_tag, 152);
TCMU_ABI_AT(tcmur_handler, get_lock_state, 160);
TCMU_ABI_AT(tcmur_handler, is_dbus_handler, 168);
TCMU_ABI_AT(tcmur_handler, update_logdir, 176);
TCMU_ABI_AT(tcmur_handler, init, 184);
TCMU_ABI_AT(tcmur_handler, destroy, 192);

#undef TCMU_ABI_AT

#ifdef __cplusplus
}
#endif

#endif
