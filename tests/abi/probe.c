// Prints every fact of the runner's interface that the handler relies on. Compiled twice: with the
// project's header and, with -DRUNNER_TREE, with the headers of the runner's source.
#ifdef RUNNER_TREE
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include "tcmu-runner.h"
#include "libtcmu.h"
#include "tcmur_device.h"
#define is_dbus_handler _is_dbus_handler
#define TCMU_SENSE_BYTES SENSE_BUFFERSIZE
#else
#include <stdio.h>
#include "tcmu_abi.h"
#endif

#define SIZE(type) printf("sizeof(%s) %zu\n", #type, sizeof(type))
#define AT(type, member)                                                            \
  printf("%s.%s at %zu, %zu bytes\n", #type, #member, offsetof(struct type, member), \
         sizeof(((struct type*)0)->member))
#define VALUE(name) printf("%s = %d\n", #name, (int)(name))
#define FUNCTION(name, ...)       \
  printf("%s: %s\n", #name,       \
         __builtin_types_compatible_p(__typeof__(&name), __VA_ARGS__) ? "as expected" : "differs")
// The declared type of a callout, spelled out once here, so that both headers are held to it.
#define CALLOUT(member, ...)                                                              \
  printf("tcmur_handler.%s: %s\n", #member,                                               \
         __builtin_types_compatible_p(__typeof__(((struct tcmur_handler*)0)->member), __VA_ARGS__) \
             ? "as expected"                                                              \
             : "differs")

typedef struct tcmu_device Dev;
typedef struct tcmur_cmd Cmd;
typedef struct iovec Iov;

static void structs(void) {
  SIZE(struct tcmulib_cmd);
  AT(tcmulib_cmd, cmd_id);
  AT(tcmulib_cmd, cdb);
  AT(tcmulib_cmd, iovec);
  AT(tcmulib_cmd, iov_cnt);
  AT(tcmulib_cmd, sense_buf);
  AT(tcmulib_cmd, hm_private);
  SIZE(struct tcmur_cmd);
  AT(tcmur_cmd, lib_cmd);
  AT(tcmur_cmd, iovec);
  AT(tcmur_cmd, iov_cnt);
  AT(tcmur_cmd, iov_base_copy);
  AT(tcmur_cmd, cmd_state);
  AT(tcmur_cmd, requested);
  AT(tcmur_cmd, cmds_list_entry);
  AT(tcmur_cmd, start_time);
  AT(tcmur_cmd, timed_out);
  AT(tcmur_cmd, done);
  SIZE(struct tcmulib_cfg_info);
  AT(tcmulib_cfg_info, type);
  AT(tcmulib_cfg_info, data.dev_size);
  AT(tcmulib_cfg_info, data.dev_cfgstring);
  AT(tcmulib_cfg_info, data.write_cache);
}

static void handler(void) {
  SIZE(struct tcmur_handler);
  AT(tcmur_handler, name);
  AT(tcmur_handler, subtype);
  AT(tcmur_handler, cfg_desc);
  AT(tcmur_handler, opaque);
  AT(tcmur_handler, check_config);
  AT(tcmur_handler, reconfig);
  AT(tcmur_handler, open);
  AT(tcmur_handler, close);
  AT(tcmur_handler, nr_threads);
  AT(tcmur_handler, handle_cmd);
  AT(tcmur_handler, read);
  AT(tcmur_handler, write);
  AT(tcmur_handler, flush);
  AT(tcmur_handler, unmap);
  AT(tcmur_handler, writesame);
  AT(tcmur_handler, caw);
  AT(tcmur_handler, report_event);
  AT(tcmur_handler, lock);
  AT(tcmur_handler, unlock);
  AT(tcmur_handler, get_lock_tag);
  AT(tcmur_handler, get_lock_state);
  AT(tcmur_handler, is_dbus_handler);
  AT(tcmur_handler, update_logdir);
  AT(tcmur_handler, init);
  AT(tcmur_handler, destroy);
}

static void callouts(void) {
  CALLOUT(check_config, bool (*)(const char*, char**));
  CALLOUT(reconfig, int (*)(Dev*, struct tcmulib_cfg_info*));
  CALLOUT(open, int (*)(Dev*, bool));
  CALLOUT(close, void (*)(Dev*));
  CALLOUT(handle_cmd, int (*)(Dev*, Cmd*));
  CALLOUT(read, int (*)(Dev*, Cmd*, Iov*, size_t, size_t, off_t));
  CALLOUT(write, int (*)(Dev*, Cmd*, Iov*, size_t, size_t, off_t));
  CALLOUT(flush, int (*)(Dev*, Cmd*));
  CALLOUT(unmap, int (*)(Dev*, Cmd*, uint64_t, uint64_t));
  CALLOUT(writesame, int (*)(Dev*, Cmd*, uint64_t, uint64_t, Iov*, size_t));
  CALLOUT(caw, int (*)(Dev*, Cmd*, uint64_t, uint64_t, Iov*, size_t));
  CALLOUT(init, int (*)(void));
  CALLOUT(destroy, void (*)(void));
}

static void values(void) {
  VALUE(TCMU_SENSE_BYTES);
  VALUE(TCMU_STS_ASYNC_HANDLED);
  VALUE(TCMU_STS_NOT_HANDLED);
  VALUE(TCMU_STS_OK);
  VALUE(TCMU_STS_NO_RESOURCE);
  VALUE(TCMU_STS_PASSTHROUGH_ERR);
  VALUE(TCMU_STS_BUSY);
  VALUE(TCMU_STS_WR_ERR);
  VALUE(TCMU_STS_RD_ERR);
  VALUE(TCMU_STS_MISCOMPARE);
  VALUE(TCMU_STS_INVALID_CMD);
  VALUE(TCMU_STS_INVALID_CDB);
  VALUE(TCMU_STS_INVALID_PARAM_LIST);
  VALUE(TCMU_STS_INVALID_PARAM_LIST_LEN);
  VALUE(TCMU_STS_HW_ERR);
  VALUE(TCMU_STS_RANGE);
  VALUE(TCMULIB_CFG_DEV_CFGSTR);
  VALUE(TCMULIB_CFG_DEV_SIZE);
  VALUE(TCMULIB_CFG_WRITE_CACHE);
}

static void functions(void) {
  FUNCTION(tcmur_register_handler, int (*)(struct tcmur_handler*));
  FUNCTION(tcmur_cmd_complete, void (*)(Dev*, void*, int));
  FUNCTION(tcmur_dev_set_private, void (*)(Dev*, void*));
  FUNCTION(tcmur_dev_get_private, void* (*)(Dev*));
  FUNCTION(tcmu_dev_get_uio_name, const char* (*)(Dev*));
  FUNCTION(tcmu_dev_get_cfgstring, char* (*)(Dev*));
  FUNCTION(tcmu_dev_get_num_lbas, uint64_t(*)(Dev*));
  FUNCTION(tcmu_dev_set_num_lbas, void (*)(Dev*, uint64_t));
  FUNCTION(tcmu_dev_get_block_size, uint32_t(*)(Dev*));
  FUNCTION(tcmu_dev_set_max_xfer_len, void (*)(Dev*, uint32_t));
  FUNCTION(tcmu_dev_get_max_xfer_len, uint32_t(*)(Dev*));
  FUNCTION(tcmu_dev_set_write_cache_enabled, void (*)(Dev*, bool));
  FUNCTION(tcmu_cfgfs_dev_get_wwn, char* (*)(Dev*));
  FUNCTION(tcmu_err_message, void (*)(Dev*, const char*, int, const char*, ...));
  FUNCTION(tcmu_warn_message, void (*)(Dev*, const char*, int, const char*, ...));
  FUNCTION(tcmu_info_message, void (*)(Dev*, const char*, int, const char*, ...));
  FUNCTION(tcmu_dbg_message, void (*)(Dev*, const char*, int, const char*, ...));
}

int main(void) {
  structs();
  handler();
  callouts();
  values();
  functions();
  return 0;
}
