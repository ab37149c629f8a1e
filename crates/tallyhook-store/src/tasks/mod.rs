//! Tasks, which follow their pull requests.

mod row;
mod sql;
mod task;
mod write;

pub(crate) use self::row::TaskLinkRow;
pub use self::task::{
    Due, NewTask, Settled, Task, TaskCause, TaskEdit, TaskEvent, TaskPlace, TaskRef,
};
pub(crate) use self::write::TaskWriter;
